"""The record of runs: what was accepted, who holds it, what it said, how it ended.

A thin face over what each noun's module does on a connection. Every call is one transaction, shared with whoever calls
at the same time, and is durable when it returns.
"""

from management_api.store import acceptance, cancellation, claims, draft, frames
from management_api.store.rows import Accepted, Changed, NewRun, Recorded, RunRow, StoredEvent
from management_api.store.schema import RUNS
from management_api.store.store import ApiStore
from opmas.wire.errors import Conflict
from opmas.wire.runs import Assignment, Frame


class Ledger:
    """The runs in the database; any number of them may work on one."""

    def __init__(self, store: ApiStore) -> None:
        self._store = store

    async def accept(self, new: NewRun) -> Accepted:
        """Take a run onto the record, or find the one that an earlier request made.

        Raises `IdempotencyConflict`, `SessionBusy`, `QueueFull`.
        """
        doing = "accept the run"
        try:
            return await self._store.do(doing, acceptance.accept, new)
        except Conflict as error:
            if type(error) is not Conflict:
                raise
            # Another server has just put the same key, or the same new session, on record: now it can be seen.
            return await self._store.do(doing, acceptance.accept, new)

    async def claim(
        self, agent_id: str, instance_id: str, start_count: int, room: int, lease_s: float
    ) -> tuple[Assignment, ...]:
        """Give an instance what it has room for; what would make the answer too big stays to be claimed."""
        claimant = claims.Claimant(agent_id, instance_id, start_count, room, lease_s)
        return await self._store.do("give out runs", claims.claim, claimant)

    async def record(self, agent_id: str, run_id: str, frame: Frame, lease_s: float) -> Recorded:
        """Put a frame's new events on record and renew the lease, or fence the instance off."""
        return await self._store.do("record events", frames.record, frames.Report(agent_id, run_id, frame, lease_s))

    async def cancel(self, run_id: str, actor: str) -> Changed:
        """Cancel a run, or ask its instance to; what has ended is left as it is. Raises `RunNotFound`."""
        return await self._store.do("cancel the run", cancellation.cancel, cancellation.Cancel(run_id, actor))

    async def run(self, run_id: str) -> RunRow | None:
        """Read a run."""
        found = await self._store.look("read the run", lambda on: draft.load(on, RUNS.c.id == run_id))
        return found[0] if found else None

    async def events(self, run_id: str, after: int = 0, limit: int = 500) -> tuple[StoredEvent, ...]:
        """Read up to `limit` events of a run that come after number `after`, in order."""
        return await self._store.look("read events", lambda on: frames.events(on, run_id, after, limit))
