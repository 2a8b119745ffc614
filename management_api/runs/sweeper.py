"""What keeps the record of runs in order: every second, one look over all that are under way.

Late runs are settled, lost nudges repeated. Apart from that, now and then, runs of deleted agents fail and old ones are
forgotten: a manager that is asked and does not answer must keep no lease from being judged. Several APIs may do so at
once: each change is made by one of them.
"""

import asyncio
import time
from datetime import timedelta

import structlog

from management_api.fleet import Fleet
from management_api.runs.calm import Calm
from management_api.runs.directory import Directory
from management_api.runs.herald import Herald
from management_api.runs.timings import Timings
from management_api.store.ledger import Ledger
from opmas.bus import BusUnavailable
from opmas.wire.errors import DatabaseUnavailable
from opmas.wire.messages import now

logger = structlog.get_logger(__name__)


class Sweeper:
    """Looks again and again."""

    def __init__(self, fleet: Fleet, ledger: Ledger, herald: Herald, directory: Directory, timings: Timings) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._herald = herald
        self._directory = directory
        self._timings = timings
        self._calm = Calm(timings.lease_s, time.monotonic())
        self._forget_at = 0.0

    async def keep_sweeping(self) -> None:
        """For ever."""
        while True:
            try:
                await self._sweep()
            except DatabaseUnavailable as error:
                self._calm.disturbed(time.monotonic())
                logger.debug("cannot look over the runs", reason=error.message)
            except Exception:  # the edge of a look: one that fails must not end the API, nor the looks to come
                self._calm.disturbed(time.monotonic())
                logger.exception("cannot look over the runs")
            await asyncio.sleep(self._timings.sweep_s)

    async def keep_tidying(self) -> None:
        """For ever, let go of what nobody will ask for again."""
        while True:
            try:
                await self._tidy(time.monotonic())
            except DatabaseUnavailable as error:
                logger.debug("cannot tidy the runs", reason=error.message)
            except Exception:  # the edge of a look, as above
                logger.exception("cannot tidy the runs")
            await asyncio.sleep(self._timings.orphans_s)

    async def _sweep(self) -> None:
        at = now()  # before the clocks are compared: what happens in a pause after this is not judged
        connected_since = await self._connected_since()
        verdicts = self._calm.tick(time.monotonic(), time.time(), self._timings.sweep_s, connected_since)
        swept = await self._ledger.sweep(at, verdicts, self._timings.grace_s)
        for change in swept.changed:
            logger.info("settled a run", run_id=change.run.id, status=change.run.status, reason=change.run.reason)
            await self._herald.changed(change)
        for agent_id in swept.agents_with_work:
            await self._herald.nudge(agent_id)

    async def _connected_since(self) -> float | None:
        """Ask NATS for a sign of life: it may be frozen for many seconds before the connection counts as lost."""
        bus = self._fleet.connection
        if bus is None:
            return None
        try:
            await bus.flush(self._timings.lease_s / 4)
        except BusUnavailable:
            return None
        return bus.good_since

    async def _tidy(self, at: float) -> None:
        await self._fail_orphans()
        if at >= self._forget_at and self._timings.retention_days:
            self._forget_at = at + self._timings.forget_s
            count = await self._ledger.forget(now() - timedelta(days=self._timings.retention_days))
            logger.debug("forgot old runs", count=count)

    async def _fail_orphans(self) -> None:
        for agent_id in await self._ledger.agents_with_pending():
            if not await self._directory.is_deleted(agent_id):
                continue
            error = f"the agent {agent_id} was deleted"
            for change in await self._ledger.fail_pending(agent_id, error, "agent_deleted"):
                await self._herald.changed(change)
