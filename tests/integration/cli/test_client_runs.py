"""The run part of `OpmasClient` against a whole OPMAS: the echo agent, the real API, and the API's death."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opmas.cli import home
from opmas.client import BlockingClient, NotFound, OpmasClient, RunFailed, Unauthorized
from opmas.wire.errors import ConfirmationDecided, IdempotencyConflict, TooLarge
from opmas.wire.invocation import OutwardStatus
from tests.integration.cli.conftest import Shell

_PATIENCE_S = 60.0


@pytest.fixture
async def client(opmas: Shell, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpmasClient]:
    monkeypatch.setenv("OPMAS_HOME", opmas.env["OPMAS_HOME"])
    async with OpmasClient(home.api_url(), home.token()) as client, asyncio.timeout(_PATIENCE_S):
        yield client


async def test_a_run_is_invoked_awaited_polled_and_listed(client: OpmasClient) -> None:
    waited = await client.invoke("echo", "hello", wait=30, metadata={"from": "test"})
    begun = await client.invoke("echo", "again", session_id=waited.session_id, correlation_id="ours")
    polled = await client.poll_until_complete("echo", begun.run_id)

    assert (waited.status, waited.content) == (OutwardStatus.COMPLETED, "hello")
    assert (polled.content, polled.session_id) == ("again", waited.session_id)
    assert polled.metadata is not None
    assert polled.metadata.correlation_id == "ours"
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    listed = await client.runs(agent="echo", session=waited.session_id, since=hour_ago)
    assert [run.run_id for run in listed.runs] == [begun.run_id, waited.run_id]
    failed = await client.invoke("echo", "x", params={"fail": "broken"})
    with pytest.raises(RunFailed, match="broken"):
        await client.poll_until_complete("echo", failed.run_id)


async def test_one_key_is_one_run_and_another_request_under_it_a_conflict(client: OpmasClient) -> None:
    runs = [await client.invoke("echo", "once", idempotency_key="the-key") for _ in range(2)]

    assert runs[0].run_id == runs[1].run_id
    with pytest.raises(IdempotencyConflict):
        await client.invoke("echo", "twice", idempotency_key="the-key")


async def test_a_confirmation_is_seen_decided_once_and_the_stream_goes_on(client: OpmasClient) -> None:
    kinds, text = [], ""
    async for event in client.run_and_stream("echo", "buy", params={"confirm": True}):
        kinds.append(event.type)
        text += event.content or ""
        if found := event.confirmation:
            run_id = event.run_id
            assert (await client.poll_until_complete("echo", run_id)).status is OutwardStatus.RUNNING
            await client.confirm("echo", run_id, found.confirmation_id, True, arguments={"message": "sell"})
            with pytest.raises(ConfirmationDecided):
                await client.confirm("echo", run_id, found.confirmation_id, False)

    assert (kinds[0], kinds[-1], text) == ("start", "end", "sell")
    last = [event async for event in client.stream("echo", run_id)][-1]
    assert last.run is not None
    assert [event async for event in client.stream("echo", run_id, last_event_id=last.id)] == []


async def test_a_stream_has_no_gap_and_no_duplicate_over_a_killed_api(client: OpmasClient) -> None:
    words = [f"w{number}" for number in range(60)]
    told = []
    async for event in client.run_and_stream("echo", " ".join(words), params={"delay": 0.05}):
        told.append(event)
        if len(told) == 5:
            os.kill(home.up_record()["pids"]["api"], signal.SIGKILL)

    assert "".join(event.content or "" for event in told) == " ".join(words)
    assert [int(event.id) for event in told] == sorted({int(event.id) for event in told})
    assert told[-1].type == "end"


async def test_a_run_is_cancelled_and_its_stream_ends_with_the_reason(client: OpmasClient) -> None:
    begun = await client.invoke("echo", "a b c", params={"delay": 60})
    stream = client.stream("echo", begun.run_id)
    assert (await anext(stream)).type == "start"
    await client.cancel("echo", begun.run_id)

    last = [event async for event in stream][-1]

    assert (last.type, (last.run.data or {})["reason"] if last.run else "") == ("error", "cancelled")


async def test_sessions_and_files_are_kept_shown_and_taken_away(client: OpmasClient, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A")
    files = [await client.upload(tmp_path / "a.md"), await client.upload(b"xyz", name="b.txt")]
    session = await client.create_session("echo", title="Mine")
    run = await client.invoke("echo", "see", session_id=session.session_id, files=[f.file_id for f in files], wait=30)

    assert run.content == "see\na.md: 3 bytes\nb.txt: 3 bytes"
    assert (await client.rename_session(session.session_id, "Ours")).title == "Ours"
    assert [m.role for m in (await client.session(session.session_id)).messages] == ["user", "assistant"]
    assert session.session_id in {one.session_id for one in (await client.sessions(agent="echo")).sessions}
    assert json.loads(await client.export_session(session.session_id))["title"] == "Ours"
    assert "see" in await client.export_session(session.session_id, format="markdown")
    await client.delete_session(session.session_id)
    with pytest.raises(NotFound):
        await client.session(session.session_id)


async def test_refusals_have_their_kinds_and_health_is_well(client: OpmasClient) -> None:
    with pytest.raises(NotFound):
        await client.invoke("nobody", "hi")
    with pytest.raises(NotFound):
        await client.get_run("echo", "0" * 32)
    with pytest.raises(TooLarge):
        await client.invoke("echo", "x" * 8_000_000)
    with pytest.raises(Unauthorized) as caught:
        await client.runs(token="wrong-token")
    assert (caught.value.status, caught.value.correlation_id != "") == (401, True)
    assert (await client.check_health()).status in {"ok", "degraded"}


async def test_the_port_of_runs_serves_a_client_as_well(opmas: Shell, client: OpmasClient) -> None:
    async with OpmasClient(f"http://127.0.0.1:{opmas.env['OPMAS_API__AGENTOS_PORT']}", home.token()) as other:
        run = await other.invoke("echo", "there", wait=30)
        told = [event.type async for event in other.stream("echo", run.run_id)]

        assert (run.content, told) == ("there", ["start", "chunk", "end"])
        assert (await other.check_health()).healthy


async def test_the_face_without_await_does_the_same(client: OpmasClient) -> None:
    def script() -> str:
        with BlockingClient(home.api_url(), home.token()) as blocking:
            return "".join(event.content or "" for event in blocking.run_and_stream("echo", "one two"))

    assert await asyncio.to_thread(script) == "one two"
