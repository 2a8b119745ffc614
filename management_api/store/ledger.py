"""The record of runs: what was accepted, who holds it, what it said, how it ended.

A thin face over what each noun's module does on a connection. Every call is one transaction, shared with whoever calls
at the same time, and is durable when it returns. Ids are not guarded here: who may see what is the callers' to check.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import uuid4

from pydantic import JsonValue

from management_api.store import (
    acceptance,
    cancellation,
    claims,
    decisions,
    files,
    frames,
    lists,
    sessions,
    sweep,
)
from management_api.store.rows import (
    Accepted,
    Changed,
    FileRow,
    NewRun,
    Recorded,
    RunAuditRow,
    RunFilter,
    RunRow,
    SessionFilter,
    SessionRow,
    StoredEvent,
    Swept,
)
from management_api.store.store import ApiStore
from opmas.wire.errors import Conflict, OpmasError, TooLarge
from opmas.wire.messages import now
from opmas.wire.runs import Claimed, FilePiece, Frame, Turn

_RACES = 2  # that one request can lose against another server: for its session, and for its key
_CORRELATION = 200  # characters of a correlation id; PostgreSQL indexes no text longer than 2,700 bytes


class Ledger:
    """The runs in the database; any number of them may work on one."""

    def __init__(self, store: ApiStore) -> None:
        self._store = store

    # --- the way of a run -------------------------------------------------------------------------------------------

    async def accept(self, new: NewRun) -> Accepted:
        """Take a run onto the record, or find the one that an earlier request made.

        Raises `IdempotencyConflict`, `SessionBusy`, `QueueFull`.
        """
        doing = "accept the run"
        new = replace(new, correlation_id=new.correlation_id[:_CORRELATION])
        for _ in range(_RACES):
            try:
                return await self._store.do(doing, acceptance.accept, new)
            except Conflict as error:
                if type(error) is not Conflict:
                    raise
                # Another server has just put the same key, or the same new session, on record: now it can be seen.
        return await self._store.do(doing, acceptance.accept, new)

    async def claim(
        self,
        agent_id: str,
        instance_id: str,
        start_count: int,
        room: int,
        lease_s: float,
        *,
        unheard: bool = False,
    ) -> Claimed:
        """Give an instance what it has room for; what would make the answer too big stays to be claimed.

        `unheard`: it never heard what its last claim gave it, which it is therefore given anew.
        """
        claimant = claims.Claimant(agent_id, instance_id, start_count, room, lease_s, unheard)
        return await self._store.do("give out runs", claims.claim, claimant)

    async def record(self, agent_id: str, run_id: str, frame: Frame, lease_s: float) -> Recorded:
        """Put a frame's new events on record and renew the lease, or fence the instance off."""
        return await self._store.do("record events", frames.record, frames.Report(agent_id, run_id, frame, lease_s))

    async def cancel(self, run_id: str, actor: str) -> Changed:
        """Cancel a run, or ask its instance to; what has ended is left as it is. Raises `RunNotFound`."""
        return await self._store.do("cancel the run", cancellation.cancel, cancellation.Cancel(run_id, actor))

    async def decide(
        self,
        run_id: str,
        confirmation_id: str,
        confirmed: bool,
        note: str,
        arguments: Mapping[str, JsonValue] | None,
        actor: str,
    ) -> Changed:
        """Confirm or reject what a run waits for. Raises `ConfirmationDecided`, `RunNotFound`."""
        verdict = decisions.Verdict(
            run_id=run_id,
            confirmation_id=confirmation_id,
            confirmed=confirmed,
            note=note,
            arguments=None if arguments is None else dict(arguments),
            actor=actor,
        )
        return await self._store.change("keep the decision", lambda on: decisions.decide(on, verdict))

    # --- runs that nobody speaks for --------------------------------------------------------------------------------

    async def settle_older(self, agent_id: str, instance_id: str, start_count: int) -> tuple[Changed, ...]:
        """Treat as lost what an older process of a slot held: the new one proves that it is gone."""
        settled: tuple[Changed, ...] = ()
        while some := await self._store.change(
            "settle lost runs", lambda on: sweep.settle_older(on, agent_id, instance_id, start_count, now())
        ):
            settled += some
        return settled

    async def sweep(self, at: datetime, verdicts: bool, grace_s: float) -> Swept:
        """End or free the runs that are late; `verdicts` says whether leases and time limits are judged as well."""
        look = sweep.Look(at, verdicts, grace_s)
        due, agents = await self._store.look(
            "look over the runs", lambda on: (sweep.due(on, look), sweep.agents_with_work(on))
        )
        if not due:
            return Swept((), agents)
        changed = await self._store.change("settle late runs", lambda on: sweep.settle(on, look, due))
        return Swept(changed, await self._store.look("look over the runs", sweep.agents_with_work))

    async def fail_pending(self, agent_id: str, error: str, reason: str) -> tuple[Changed, ...]:
        """Fail all runs of an agent that no instance holds: the agent is no more."""
        failed: tuple[Changed, ...] = ()
        while some := await self._store.change(
            "fail runs", lambda on: sweep.fail_unheld(on, agent_id, error, reason, now())
        ):
            failed += some
        return failed

    async def has_open(self, agent_id: str) -> bool:
        """Say whether an agent has any run that has not ended."""
        return await self._store.look("look for runs", lambda on: sweep.has_open(on, agent_id))

    async def agents_with_pending(self) -> frozenset[str]:
        """List the agents that have runs which no instance holds."""
        return await self._store.look("look over the runs", sweep.agents_with_unheld)

    async def forget(self, before: datetime) -> int:
        """Delete the runs that ended before, in portions; returns how many. The audit keeps what was done to them."""
        total, doing = 0, "forget old runs"
        while count := await self._store.change(doing, lambda on: lists.forget_runs(on, before)):
            total += count
        await self._store.change(doing, lambda on: lists.forget_rest(on, before))
        return total

    # --- reading ----------------------------------------------------------------------------------------------------

    async def run(self, run_id: str) -> RunRow | None:
        """Read a run."""
        return await self._store.look("read the run", lambda on: lists.run(on, run_id))

    async def events(self, run_id: str, after: int = 0, limit: int = 500) -> tuple[StoredEvent, ...]:
        """Read up to `limit` events of a run that come after number `after`, in order."""
        return await self._store.look("read events", lambda on: frames.events(on, run_id, after, limit))

    async def positions(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Read the number of the last event of each of some runs."""
        return await self._store.look("look for news of runs", lambda on: lists.positions(on, run_ids))

    async def runs(self, asked: RunFilter) -> tuple[tuple[RunRow, ...], int]:
        """Read a page of runs, the newest first, and the number of all that match."""
        return await self._store.look("list runs", lambda on: lists.runs(on, asked))

    async def audit(self, workspace: str | None = None, after: int = 0, limit: int = 100) -> tuple[RunAuditRow, ...]:
        """Read what was done to runs after entry `after`, oldest first."""
        return await self._store.look("read the audit", lambda on: lists.audit(on, workspace, after, limit))

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def create_session(
        self, *, workspace: str, agent_id: str, user_id: str, title: str, session_id: str | None = None
    ) -> SessionRow:
        """Begin a session under the id asked for, if it is fit for one and free, else under a new one."""
        at = now()
        named = session_id if session_id is not None and acceptance.is_session_id(session_id) else uuid4().hex
        row = SessionRow(
            id=named, workspace=workspace, agent_id=agent_id, user_id=user_id, title=title, created_at=at, updated_at=at
        )
        return await self._store.change("create the session", lambda on: sessions.create(on, row))

    async def session(self, workspace: str | None, session_id: str) -> SessionRow | None:
        """Read a session; without a workspace that of any."""
        return await self._store.look("read the session", lambda on: sessions.get(on, workspace, session_id))

    async def sessions(self, asked: SessionFilter) -> tuple[tuple[SessionRow, ...], int]:
        """Read a page of sessions, the last used first, and the number of all that match."""
        return await self._store.look("list sessions", lambda on: sessions.page(on, asked))

    async def session_messages(self, workspace: str, session_id: str, limit: int = 1000) -> tuple[Turn, ...]:
        """Read what was said in a session, oldest first, of its newest `limit` runs."""
        return await self._store.look(
            "read the session", lambda on: sessions.messages(on, workspace, session_id, limit)
        )

    async def rename_session(self, workspace: str, session_id: str, title: str) -> SessionRow:
        """Give a session another title. Raises `SessionNotFound`."""
        return await self._store.change(
            "rename the session", lambda on: sessions.rename(on, workspace, session_id, title)
        )

    async def delete_session(self, workspace: str, session_id: str) -> None:
        """Delete a session with all its runs. Raises `SessionNotFound`, and `SessionBusy` while one is under way."""
        await self._store.change("delete the session", lambda on: sessions.remove(on, workspace, session_id))

    # --- files ------------------------------------------------------------------------------------------------------

    async def add_file(
        self,
        *,
        workspace: str,
        user_id: str,
        name: str,
        type: str,  # noqa: A002 - as the field of the row
        content: AsyncIterator[bytes],
        max_bytes: int,
    ) -> FileRow:
        """Store a file as it comes in. Raises `TooLarge` as soon as it is longer than `max_bytes`."""
        row = FileRow(id=uuid4().hex, workspace=workspace, user_id=user_id, name=name, type=type, size=0, sha256="")
        await self._store.change("store the file", lambda on: files.begin(on, row))
        try:
            row = await self._fill(row, content, max_bytes)
            await self._store.change("store the file", lambda on: files.finish(on, row))
        except BaseException:
            with suppress(OpmasError):  # what is left of it nobody sees, and it is forgotten in time
                await self._store.change("drop the file", lambda on: files.drop(on, row.id))
            raise
        return row

    async def _fill(self, row: FileRow, content: AsyncIterator[bytes], max_bytes: int) -> FileRow:
        digest, size, number = hashlib.sha256(), 0, 0
        async for piece in files.pieces(content):
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"cannot store {row.name}: it is larger than {max_bytes} bytes", "send a smaller file")
            digest.update(piece)
            await self._store.change("store the file", partial(files.add, file_id=row.id, number=number, content=piece))
            number += 1
        return replace(row, size=size, sha256=digest.hexdigest())

    async def files(self, ids: Iterable[str], workspace: str | None) -> tuple[FileRow, ...]:
        """Read those of the files that are there (in that workspace), in the order of `ids`."""
        wanted = list(ids)
        return await self._store.look("read files", lambda on: files.find(on, wanted, workspace))

    async def piece(self, agent_id: str, run_id: str, instance_id: str, file_id: str, offset: int) -> FilePiece:
        """Read a piece of a file of a run which that instance holds now. Raises `FileNotFound` otherwise."""
        asked = files.PieceRequest(agent_id, run_id, instance_id, file_id, offset)
        found = await self._store.look("read the file", lambda on: files.piece(on, asked))
        if isinstance(found, OpmasError):
            raise found
        return found
