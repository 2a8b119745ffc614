"""Tells everybody, on `agent.status`, when an agent's status changes, and when an agent comes, changes or goes.

Such a report is of all its instances and names none; `metadata.change` says what was done to the agent, if anything.
It is a hint: core NATS loses what nobody hears, and who keeps a copy of the agents asks for them again on connecting.
"""

import asyncio
from collections import deque

import structlog

from agent_manager.registry import AgentRecord
from opmas.bus import Bus
from opmas.wire import subjects
from opmas.wire.errors import OpmasError
from opmas.wire.messages import StatusReport, now

log = structlog.get_logger(__name__)

# More than a fleet's worth: while NATS is away the oldest go, as whoever returns asks for everything anyway.
_KEPT = 10_000

_MARKED = {subjects.REPUBLISHED_HEADER: "1"}


class News:
    """Collects what has changed and publishes it from one task, `run`."""

    def __init__(self) -> None:
        self._reports: deque[StatusReport] = deque(maxlen=_KEPT)
        self._work = asyncio.Event()

    def look(self, record: AgentRecord) -> None:
        """Report an agent's status if it is another than the last reported."""
        if record.status is not record.published:
            self._add(record)

    def tell(self, record: AgentRecord, change: str) -> None:
        """Report what was done to an agent."""
        self._add(record, change)

    async def run(self, bus: Bus) -> None:
        """Publish for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._reports:
                try:
                    await bus.publish(subjects.STATUS, self._reports.popleft(), headers=_MARKED)
                except OpmasError as error:
                    log.debug("news_lost", reason=error.message)

    def _add(self, record: AgentRecord, change: str = "") -> None:
        record.published = record.status
        self._reports.append(
            StatusReport(
                agent_id=record.id,
                status=record.status,
                message=record.reason[:500],
                metadata={"change": change} if change else {},
                timestamp=now(),
            )
        )
        self._work.set()
