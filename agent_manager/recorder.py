"""Writes down what happened: instances' conditions and events, in batches, and again when the database was away.

Supervision never waits for it. While the database is away the latest condition of each instance and the last few
thousand events are kept in memory. What a command changes must be durable before it is answered: that goes to the store
itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from agent_manager.instance import Instance
from agent_manager.process.errors import PreloadRefused
from agent_manager.registry import AgentRecord
from agent_manager.store import AuditRow, EventRow, Store
from opmas.wire.errors import DatabaseUnavailable, OpmasError
from opmas.wire.status import AgentStatus
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

R = TypeVar("R")

# Ten events for each of a thousand agents; what is older is dropped and counted while the database is away.
_KEPT_EVENTS = 10_000
_BATCH = 500
_RETRY_S = 1.0
_GATHER_S = 0.02
"""Changes of one moment share a transaction: a hundred starts are a few, not three hundred."""


class Recorder:
    """Collects changes and saves them from one task, `run`."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._dirty: dict[tuple[str, int], Instance] = {}
        # The lowest ordinal of each agent that is no more.
        self._retired: dict[str, int] = {}
        self._events: deque[EventRow] = deque(maxlen=_KEPT_EVENTS)
        self._audit: deque[AuditRow] = deque(maxlen=_KEPT_EVENTS)
        self._work = asyncio.Event()
        self._flushing = asyncio.Lock()
        self.database_ok = False

    def changed(self, record: AgentRecord, instance: Instance, cause: Cause) -> None:
        """An instance went from one phase to another."""
        self.touch(instance)
        self.happened(record.id, "instance", cause, instance_id=instance.id, status=instance.status)

    def touch(self, instance: Instance) -> None:
        """An instance's facts are to be saved with the next batch."""
        if self._retired.get(instance.agent_id, instance.ordinal + 1) <= instance.ordinal:
            self._retired[instance.agent_id] = instance.ordinal + 1  # there again
        self._dirty[instance.agent_id, instance.ordinal] = instance
        self._work.set()

    def retired(self, instance: Instance) -> None:
        """An instance is no more, nor is any with a higher ordinal."""
        self._dirty.pop((instance.agent_id, instance.ordinal), None)
        self._retired[instance.agent_id] = min(instance.ordinal, self._retired.get(instance.agent_id, instance.ordinal))
        self._work.set()

    def happened(
        self, agent_id: str, kind: str, cause: Cause, *, instance_id: str = "", status: AgentStatus | None = None
    ) -> None:
        """Something happened that people may ask about."""
        self._events.append(
            EventRow(
                node=self._node,
                agent_id=agent_id,
                kind=kind,
                instance_id=instance_id or None,
                status=status,
                cause=cause.model_dump(mode="json", exclude_defaults=True),
            )
        )
        self._work.set()

    def refused_preload(self, agent_id: str, refusal: PreloadRefused) -> None:
        """An instance was executed, because what it wants preloaded cannot be forked from."""
        cause = Cause(actor="manager", code="preload_refused", detail=f"{refusal.message}: executed, not forked")
        self.happened(agent_id, "preload_refused", cause)

    def unsaved(self, agent_id: str) -> list[EventRow]:
        """What happened to an agent and waits to be saved."""
        return [row for row in self._events if row.agent_id == agent_id]

    def answered(self, row: AuditRow) -> None:
        """A command was answered; its audit row comes with the next batch."""
        self._audit.append(row)
        self._work.set()

    @property
    def pending(self) -> bool:
        """Whether anything waits to be saved."""
        return bool(self._dirty or self._events or self._audit or self._retired)

    async def run(self) -> None:
        """Save batches for ever."""
        while True:
            await self._work.wait()
            await asyncio.sleep(_GATHER_S)
            if not await self.flush():
                await asyncio.sleep(_RETRY_S)

    async def flush(self) -> bool:
        """Save what there is; False when the database did not take it, which loses nothing and doubles nothing."""
        # One at a time: who has flushed finds all in the database, also what another flush had in hand.
        known_good = self.database_ok
        async with self._flushing:
            if known_good and not self.database_ok:
                return False  # the one before has just waited for it in vain
            return await self._flush()

    async def _flush(self) -> bool:
        self._work.clear()
        try:
            await self._flush_instances()
            await self._flush_events()
            await self._flush_audit()
            await self._flush_retired()
        except OpmasError as error:
            self._work.set()
            if self.database_ok or not isinstance(error, DatabaseUnavailable):
                log.warning("not_recorded", reason=error.message, waiting_events=len(self._events))
            self.database_ok = False
            return False
        if not self.database_ok:
            log.info("database_ok")
        self.database_ok = True
        return True

    async def _flush_instances(self) -> None:
        dirty, self._dirty = self._dirty, {}
        try:
            await self._store.save_instances([instance.row() for instance in dirty.values()])
        except OpmasError:
            self._dirty = dirty | self._dirty
            raise

    async def _flush_events(self) -> None:
        await _drained(self._events, self._store.add_events)

    async def _flush_audit(self) -> None:
        await _drained(self._audit, self._store.add_audit_rows)

    async def _flush_retired(self) -> None:
        for agent_id, ordinal in list(self._retired.items()):
            await self._store.delete_instances(agent_id, ordinal)
            if self._retired.get(agent_id) == ordinal:
                del self._retired[agent_id]


async def _drained(queue: deque[R], save: Callable[[Sequence[R]], Awaitable[object]]) -> None:
    """Save a queue's rows batch by batch; a batch that cannot be saved goes back to its front."""
    while queue:
        batch = [queue.popleft() for _ in range(min(len(queue), _BATCH))]
        try:
            await save(batch)
        except OpmasError:
            # The oldest give way to what has come meanwhile, as everywhere in a full queue.
            queue.extendleft(reversed(batch[: _KEPT_EVENTS - len(queue)]))
            raise
