"""The run service: what stands between HTTP callers, the record of runs, and the instances that run them.

Any number of APIs may serve one record. Nothing about a run lives in one of them: the record is queue, log and lease,
and NATS only nudges and carries questions.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from management_api.auth.principal import Principal
from management_api.fleet import Fleet
from management_api.runs.desk import Desk
from management_api.runs.directory import Directory, require_runs
from management_api.runs.herald import Herald
from management_api.runs.hub import Hub
from management_api.runs.intake import new_run
from management_api.runs.sweeper import Sweeper
from management_api.runs.timings import Timings
from management_api.runs.visibility import scope_of, sees
from management_api.store.ledger import Ledger
from management_api.store.rows import Accepted, Changed, RunRow, StoredEvent
from opmas.wire.errors import FileNotFound, RunNotFound
from opmas.wire.invocation import DecisionRequest, InvokeRequest
from opmas.wire.runs import FileRef

# Answers that are under way when the API stops: a commit takes milliseconds.
_CLOSE_S = 2.0


class Runs:
    """Runs, for callers; `async with runs.running()` around its life."""

    def __init__(self, fleet: Fleet, ledger: Ledger, timings: Timings | None = None) -> None:
        timings = timings or Timings()
        self.ledger = ledger
        self._hub = Hub(fleet, ledger, timings)
        self._herald = Herald(fleet, self._hub)
        self._directory = Directory(fleet, timings)
        self._desk = Desk(fleet, ledger, self._hub, self._herald, timings.lease_s)
        self._sweeper = Sweeper(fleet, ledger, self._herald, self._directory, timings)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve instances and keep the record in order until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            chores = [
                tasks.create_task(self._desk.open(tasks), name="listen for instances"),
                tasks.create_task(self._directory.keep_up(), name="learn of agents"),
                tasks.create_task(self._hub.keep_looking(), name="look for news of runs"),
                tasks.create_task(self._sweeper.keep_sweeping(), name="sweep runs"),
                tasks.create_task(self._sweeper.keep_tidying(), name="tidy runs"),
            ]
            try:
                yield
            finally:
                self.stop()
                for chore in chores:
                    chore.cancel()
                await self._desk.close(_CLOSE_S)

    async def ready(self) -> None:
        """Return when instances are listened to, which takes a connection to NATS."""
        await self._desk.is_open.wait()

    def stop(self) -> None:
        """End all who follow or wait for a run: the API is stopping."""
        self._hub.stop()

    async def invoke(
        self,
        caller: Principal,
        agent_id: str,
        request: InvokeRequest,
        *,
        idempotency_key: str | None,
        correlation_id: str,
    ) -> Accepted:
        """Put a run on record, or find the one that the same request made earlier; then it will come to an end.

        `correlation_id` is the caller's own; empty if there is none. Raises `AgentNotFound`, `AgentNotRunning`,
        `TakesNoRuns`, `FileNotFound`, `IdempotencyConflict`, `SessionBusy`, `QueueFull`, `TooLarge`, and 503s.
        """
        agent = await self._directory.agent(agent_id)
        require_runs(agent, caller)
        files = await self._files(caller, request.files)
        new = new_run(caller, agent, request, files, idempotency_key, correlation_id)
        self._hub.expect(new.run_id)
        accepted = await self.ledger.accept(new)
        if accepted.created:
            await self._herald.nudge(agent_id)
        for run in accepted.interrupted:
            await self._herald.changed(Changed(run))
        return accepted

    async def _files(self, caller: Principal, ids: tuple[str, ...]) -> tuple[FileRef, ...]:
        if not ids:
            return ()
        _, user = scope_of(caller)
        known = {row.id: row for row in await self.ledger.files(ids, caller.workspace) if user in {None, row.user_id}}
        if missing := [one for one in ids if one not in known]:
            raise FileNotFound(f"there is no file {missing[0][:80]!r}", "store it first: POST /api/v1/files")
        chosen = (known[one] for one in ids)
        return tuple(FileRef(file_id=row.id, name=row.name, type=row.type, size=row.size) for row in chosen)

    async def get(self, caller: Principal, agent_id: str, run_id: str) -> RunRow:
        """Read a run of an agent. Raises `RunNotFound` for what is another tenant's, user's or agent's too."""
        run = await self.find(caller, run_id)
        if run.agent_id != agent_id:
            raise _unknown(run_id)
        return run

    async def find(self, caller: Principal, run_id: str) -> RunRow:
        """Read a run, whichever agent's. Raises `RunNotFound` for what is another tenant's or user's too."""
        run = self._hub.settled_row(run_id) or await self.ledger.run(run_id)
        if run is None or not sees(caller, run):
            raise _unknown(run_id)
        return run

    async def settled(self, run: RunRow, timeout_s: float) -> RunRow:
        """Return `run` when it has ended or waits for a human, or as it is when time is up or the API stops."""
        return await self._hub.settled(run, timeout_s)

    def follow(self, run: RunRow, after: int) -> AsyncGenerator[StoredEvent | None, None]:
        """Yield what is on record after event number `after`, each once and in order, until the end event.

        None in every 15 seconds of silence. Ends early when the API stops; raises `DatabaseUnavailable`.
        """
        return self._hub.follow(run, after)

    async def cancel(self, caller: Principal, agent_id: str, run_id: str) -> RunRow:
        """End a run: at once, or when the instance that has it hears of it. What has ended stays as it is."""
        run = await self.get(caller, agent_id, run_id)
        change = await self.ledger.cancel(run.id, caller.title)
        await self._herald.changed(change)
        return change.run

    async def decide(
        self, caller: Principal, agent_id: str, run_id: str, confirmation_id: str, request: DecisionRequest
    ) -> RunRow:
        """Say what a human has decided; the run goes on. Raises `ConfirmationDecided`, `RunNotFound`."""
        run = await self.get(caller, agent_id, run_id)
        change = await self.ledger.decide(
            run.id, confirmation_id, request.confirmed, request.note, request.arguments, caller.title
        )
        await self._herald.changed(change)
        await self._herald.nudge(agent_id)
        return change.run

    async def delete_session(self, workspace: str, session_id: str) -> None:
        """Delete a session with its runs. Raises `SessionNotFound`, and `SessionBusy` while one is under way."""
        await self.ledger.delete_session(workspace, session_id)
        self._hub.forget(workspace, session_id)


def _unknown(run_id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id[:80]!r}", "`opmas runs ls` lists the runs")
