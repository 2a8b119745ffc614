"""Heartbeats and metrics of an instance.

The beat runs on the agent's own loop on purpose: a loop that is blocked beats late or not at all, and the manager sees
it. Health and metrics are asked for beside it, since a slow check must not look like a blocked loop.
"""

import asyncio
import logging
import random
import time

from opmas.agent.instance import Health, Instance
from opmas.wire import subjects
from opmas.wire.errors import OpmasError
from opmas.wire.messages import MetricsReport, StatusReport, now
from opmas.wire.status import AgentStatus

logger = logging.getLogger(__name__)

# Unchanged metrics are repeated this often (seconds), for a manager that has just started.
_REPEAT_METRICS_S = 60.0


class Heartbeat:
    """Reports for one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._interval = instance.environment.heartbeat_interval_s
        self._health = Health()
        self._lag_ms = 0.0
        self._reported: dict[str, float] = {}
        self._reported_at = 0.0

    async def beat(self, status: AgentStatus | None = None, message: str = "") -> None:
        """Say how we are. Skipped without a connection: a heartbeat that arrives late says nothing true."""
        instance, environment = self._instance, self._instance.environment
        if not instance.bus.is_connected:
            return
        report = StatusReport(
            status=status or (AgentStatus.RUNNING if self._health.healthy else AgentStatus.ERROR),
            agent_id=environment.agent_id,
            instance_id=environment.instance_id,
            pid=instance.pid,
            start_count=environment.start_count,
            in_flight=instance.in_flight,
            takes_runs=instance.runs.takes_runs,
            loop_lag_ms=round(self._lag_ms, 1),
            progress=instance.progress,
            message=(message or self._health.message)[:2000],
            timestamp=now(),
        )
        try:
            await instance.bus.publish(subjects.status(environment.agent_id), report)
        except OpmasError as error:
            logger.warning("cannot beat: %s", error)

    async def beat_forever(self) -> None:
        """Beat once per interval; the first one says that the agent is ready."""
        await self.beat()
        # A fleet started at once shall not beat in step for ever.
        delay = self._interval * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        while True:
            due = self._instance.loop.time() + delay
            await asyncio.sleep(delay)
            self._lag_ms = max(0.0, (self._instance.loop.time() - due) * 1000)
            await self.beat()
            delay = self._interval

    async def measure_forever(self) -> None:
        """Once per interval, ask for health, which is told at once when it changes, and for metrics."""
        while True:
            before, self._health = self._health, await self._check()
            if self._health.healthy is not before.healthy:
                await self.beat()
            await self._report_metrics()
            await asyncio.sleep(self._interval)

    async def _check(self) -> Health:
        try:
            async with asyncio.timeout(self._interval):
                return await self._instance.check_health()
        except TimeoutError:
            return Health(False, f"health_check took longer than {self._interval:g} s")

    async def _report_metrics(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                figures = await self._instance.collect_metrics()
        except Exception:  # the edge of the author's hook
            logger.exception("cannot collect metrics")
            return
        if figures == self._reported and time.monotonic() < self._reported_at + _REPEAT_METRICS_S:
            return
        environment, bus = self._instance.environment, self._instance.bus
        report = MetricsReport(
            metrics=figures, agent_id=environment.agent_id, instance_id=environment.instance_id, timestamp=now()
        )
        try:
            if bus.is_connected:
                await bus.publish(subjects.metrics(environment.agent_id), report)
                self._reported, self._reported_at = figures, time.monotonic()
        except OpmasError as error:
            logger.warning("cannot report metrics: %s", error)
