"""Runs, sessions and files are found by those they belong to, until they are forgotten."""

from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from management_api.store import Ledger
from management_api.store.files import PIECE
from management_api.store.rows import FileRow, RunFilter, SessionFilter
from opmas.wire.errors import FileNotFound, SessionBusy, SessionNotFound, TooLarge
from opmas.wire.messages import now
from opmas.wire.runs import FileRef, RunStatus
from tests.integration.ledger.making import STARTED, Instance, asking, chunk, end, new


async def test_runs_are_listed_newest_first_by_whatever_is_asked(ledger: Ledger, instance: Instance) -> None:
    start = now() - timedelta(hours=2)
    fields: list[dict[str, Any]] = [
        {}, {"user_id": "bob"}, {"agent_id": "other"}, {"session_id": "s"}, {"workspace": "umbrella"}
    ]  # fmt: skip
    ids = [
        (await ledger.accept(new(created_at=start + timedelta(minutes=number), **one))).run.id
        for number, one in enumerate(fields)
    ]
    await instance.send(await instance.start(), end())

    async def found(**asked: Any) -> tuple[list[int], int]:
        runs, total = await ledger.runs(RunFilter(**asked))
        return [ids.index(run.id) for run in runs], total

    assert await found() == ([4, 3, 2, 1, 0], 5)
    assert await found(workspace="acme", limit=2, offset=1) == ([2, 1], 4)
    assert await found(user_id="bob") == ([1], 1)
    assert await found(agent_id="other") == ([2], 1)
    assert await found(workspace="acme", session_id="s") == ([3], 1)
    assert await found(status=RunStatus.COMPLETED) == ([0], 1)
    assert await found(since=start + timedelta(minutes=3)) == ([4, 3], 2)


async def test_a_session_shows_what_was_said_in_it(ledger: Ledger, instance: Instance) -> None:
    at = now() - timedelta(minutes=1)
    await ledger.accept(new(session_id="s", message="  what\nis " + "so " * 100, created_at=at))
    await instance.send(await instance.start(), end("this"))
    await ledger.accept(new(session_id="s", message="and that?"))
    await instance.send(await instance.start(), end("", status=RunStatus.FAILED))
    await ledger.accept(new(session_id="t", user_id="bob", created_at=at))

    row = await ledger.session("acme", "s")
    assert row is not None
    assert (row.run_count, row.message_count, row.total_tokens, len(row.title)) == (2, 3, 10, 80)
    assert row.title.startswith("what is so so")
    assert row.updated_at > row.created_at
    turns = await ledger.session_messages("acme", "s")
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert [turn.content for turn in turns[1:]] == ["this", "and that?"]
    assert [turn.content for turn in await ledger.session_messages("acme", "s", limit=1)] == ["and that?"]
    rows, total = await ledger.sessions(SessionFilter(workspace="acme"))
    assert ([one.id for one in rows], total) == (["s", "t"], 2)
    assert rows[0] == row
    assert (await ledger.sessions(SessionFilter(user_id="bob")))[1] == 1
    assert await ledger.sessions(SessionFilter(agent_id="other")) == ((), 0)
    assert await ledger.session("umbrella", "s") is None
    assert await ledger.session(None, "s") == row


async def test_a_session_can_be_created_and_joined_renamed_and_deleted(ledger: Ledger, instance: Instance) -> None:
    async def create(**fields: str) -> str:
        values = {"workspace": "acme", "agent_id": "echo", "user_id": "ann", "title": "New Chat"} | fields
        return (await ledger.create_session(**values)).id  # type: ignore[arg-type] - all of them are texts

    assert await create(session_id="s") == "s"
    assert await create(session_id="s") == "s"
    assert await create(session_id="s", user_id="bob") != "s"
    assert len(await create()) == 32
    run = (await ledger.accept(new(session_id="s"))).run
    assert run.session_id == "s"
    assert (await ledger.rename_session("acme", "s", "Greetings")).title == "Greetings"

    with pytest.raises(SessionBusy, match=run.id):
        await ledger.delete_session("acme", "s")
    await instance.send(await instance.start(), asking())
    await ledger.cancel(run.id, "ann")
    await ledger.delete_session("acme", "s")

    assert await ledger.session("acme", "s") is None
    assert await ledger.run(run.id) is None
    assert await ledger.events(run.id) == ()
    for act in (ledger.delete_session("acme", "s"), ledger.rename_session("acme", "s", "x")):
        with pytest.raises(SessionNotFound):
            await act


async def parts(*sizes: int) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number]) * size


async def store_file(ledger: Ledger, *sizes: int, max_bytes: int = 10**6) -> FileRow:
    return await ledger.add_file(
        workspace="acme", user_id="ann", name="n.txt", type="text/plain", content=parts(*sizes), max_bytes=max_bytes
    )


async def test_a_file_reaches_the_instance_that_holds_its_run_piece_by_piece(
    ledger: Ledger, instance: Instance
) -> None:
    row = await store_file(ledger, PIECE - 1, 3, PIECE)
    empty = await store_file(ledger)
    assert (row.size, empty.size) == (2 * PIECE + 2, 0)
    assert await ledger.files([empty.id, "nothing", row.id], "acme") == (empty, row)
    assert await ledger.files([row.id], "umbrella") == ()
    refs = tuple(FileRef(file_id=one.id, name=one.name, type=one.type, size=one.size) for one in (row, empty))
    await ledger.accept(new(files=refs))
    given = await instance.start()
    assert given.input.files == refs

    content, at = b"", 0
    while at is not None:
        piece = await ledger.piece("echo", given.run_id, "echo-0", row.id, at)
        content, at = content + b64decode(piece.data), piece.next  # type: ignore[assignment] - None ends the loop
    assert content == b"".join([one async for one in parts(PIECE - 1, 3, PIECE)])
    assert (await ledger.piece("echo", given.run_id, "echo-0", empty.id, 0)).next is None

    other = await store_file(ledger, 1)
    for agent, holder, file in (
        ("other", "echo-0", row.id),
        ("echo", "echo-1", row.id),
        ("echo", "echo-0", other.id),
    ):
        with pytest.raises(FileNotFound):
            await ledger.piece(agent, given.run_id, holder, file, 0)
    with pytest.raises(FileNotFound):
        await ledger.piece("echo", given.run_id, "echo-0", row.id, row.size + 1)
    await instance.send(given, end())
    with pytest.raises(FileNotFound):
        await ledger.piece("echo", given.run_id, "echo-0", row.id, 0)


async def test_a_file_that_is_too_large_or_breaks_off_leaves_nothing(ledger: Ledger) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * PIECE
        raise ConnectionResetError

    with pytest.raises(TooLarge):
        await store_file(ledger, PIECE, PIECE, max_bytes=PIECE + 1)
    with pytest.raises(ConnectionResetError):
        await ledger.add_file(
            workspace="acme", user_id="ann", name="n", type="t", content=broken(), max_bytes=10 * PIECE
        )

    assert (await store_file(ledger, 5, max_bytes=5)).size == 5


async def test_what_ended_long_ago_is_forgotten_with_all_that_belongs_to_it(ledger: Ledger, instance: Instance) -> None:
    file = await store_file(ledger, 5)
    old = [(await ledger.accept(new(session_id="s"))).run.id for _ in range(2)]
    for _ in old:
        await instance.send(await instance.start(), chunk("a"), end())
    waiting = (await ledger.accept(new(session_id="t"))).run.id
    await instance.send(await instance.take(), STARTED, asking())

    assert await ledger.forget(now() - timedelta(hours=1)) == 0
    assert await ledger.forget(now()) == 2

    assert [await ledger.run(run_id) for run_id in old] == [None, None]
    assert await ledger.session("acme", "s") is None
    assert await ledger.files([file.id], None) == ()
    assert await ledger.run(waiting) is not None
    assert await ledger.session("acme", "t") is not None
    assert len(await ledger.audit("acme")) == 3
