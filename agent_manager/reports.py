"""Heartbeats and metrics from instances: to whom they belong, and on to whoever listens.

An SDK's instance reports on `agent.{id}.status` and `.metrics`, where its credentials vouch for the id; a plain program
on `agent.status` and `agent.metrics`, where its token does. What proves nothing is counted and dropped.
"""

import asyncio
import itertools
import math
from collections import deque
from typing import TypeVar

import structlog

from agent_manager.decoding import decode
from agent_manager.instance import Instance
from agent_manager.lifecycle import Event, Phase
from agent_manager.registry import AgentRegistry
from agent_manager.supervisor import Supervisor
from opmas.bus import Bus, Msg
from opmas.wire import subjects
from opmas.wire.errors import InvalidRequest, OpmasError
from opmas.wire.messages import MetricsReport, StatusReport
from opmas.wire.status import AgentStatus
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

R = TypeVar("R", StatusReport, MetricsReport)

# What is kept of a text, and of the figures, that a stranger sends: both are shown again, in answers of 1 MB at most.
_MAX_TEXT, _MAX_FIGURES, _MAX_NAME = 500, 1000, 128

# Beats that say nothing new are passed on together: a write to the socket costs more than all else about a beat.
_TOGETHER_S = 0.1
# While NATS is away the oldest go: a beat of then is worth nothing now.
_KEPT = 10_000

_MARKED = {subjects.REPUBLISHED_HEADER: "1"}


class Reports:
    """Takes reports, tells the supervisor, and publishes them again for everybody."""

    def __init__(self, bus: Bus, registry: AgentRegistry, supervisor: Supervisor) -> None:
        self._bus = bus
        self._registry = registry
        self._supervisor = supervisor
        self._told: deque[StatusReport] = deque(maxlen=_KEPT)
        self._work = asyncio.Event()
        self.rejected = 0
        """Reports that could not be understood or proved nothing."""

    async def listen(self, tasks: asyncio.TaskGroup) -> None:
        """Subscribe, and pass on what is heard for as long as `tasks` lasts."""
        tasks.create_task(self._pass_on(), name="pass beats on")
        subscribe = self._bus.subscribe
        await subscribe(subjects.ALL_STATUS, self._on_status, tasks=tasks)
        await subscribe(subjects.ALL_METRICS, self._on_metrics, tasks=tasks)
        await subscribe(subjects.STATUS, self._on_plain_status, tasks=tasks)
        await subscribe(subjects.METRICS, self._on_plain_metrics, tasks=tasks)

    async def _on_status(self, msg: Msg) -> None:
        report = self._report(StatusReport, msg)
        if report is not None:
            await self._beat(subjects.agent_of(msg.subject), report.instance_id or "", report)

    async def _on_plain_status(self, msg: Msg) -> None:
        report = self._report(StatusReport, msg)
        owner = self._owner(msg, report)
        if report is not None and owner is not None:
            await self._beat(owner.agent_id, owner.id, report)

    async def _beat(self, agent_id: str, instance_id: str, report: StatusReport) -> None:
        record = self._registry.find(agent_id)
        instance = self._registry.find_instance(agent_id, instance_id)
        if record is None or instance is None or not (instance.alive or instance.phase is Phase.LAUNCHING):
            return
        if report.start_count is not None and report.start_count != instance.start_count:
            return  # a late word of a former process
        before = instance.report.status if instance.report is not None else None
        instance.beat(report)
        told = report.model_copy(update={"agent_id": agent_id, "instance_id": instance.id, "token": None})
        self._told.append(told)
        self._work.set()
        # Of a running instance, the usual case, a beat says nothing new.
        if report.status is not AgentStatus.STARTING and instance.phase is not Phase.RUNNING:
            cause = Cause(actor=instance.id, detail=report.message[:_MAX_TEXT])
            self._supervisor.apply(record, instance, Event.READY, cause)
            self._supervisor.apply(record, instance, Event.BEAT, cause)
        if report.status is not before:
            await self._tell()

    async def _pass_on(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(_TOGETHER_S)
            self._work.clear()
            await self._tell()

    async def _tell(self) -> None:
        """Publish what has been heard, in the order in which it was."""
        while self._told:
            try:
                await self._bus.publish(subjects.STATUS, self._told.popleft(), headers=_MARKED)
            except OpmasError as error:
                log.debug("beat_not_passed_on", reason=error.message)

    async def _on_metrics(self, msg: Msg) -> None:
        report = self._report(MetricsReport, msg)
        if report is not None:
            await self._measure(subjects.agent_of(msg.subject), report.instance_id or "", report)

    async def _on_plain_metrics(self, msg: Msg) -> None:
        report = self._report(MetricsReport, msg)
        owner = self._owner(msg, report)
        if report is not None and owner is not None:
            await self._measure(owner.agent_id, owner.id, report)

    async def _measure(self, agent_id: str, instance_id: str, report: MetricsReport) -> None:
        instance = self._registry.find_instance(agent_id, instance_id)
        if instance is None or not instance.alive:
            return
        instance.custom = figures = _figures(report)
        if len(figures) < len(report.metrics):
            log.warning("figures_dropped", instance=instance.id, dropped=len(report.metrics) - len(figures))
        told = report.model_copy(
            update={"agent_id": agent_id, "instance_id": instance.id, "token": None, "metrics": figures}
        )
        await self._bus.publish(subjects.METRICS, told, headers=_MARKED)

    def _report(self, kind: type[R], msg: Msg) -> R | None:
        if subjects.REPUBLISHED_HEADER in msg.headers:
            return None
        try:
            return decode(kind, msg.data)
        except InvalidRequest as error:
            self._reject(msg, error.message)
            return None

    def _owner(self, msg: Msg, report: StatusReport | MetricsReport | None) -> Instance | None:
        """The instance that a plain program's report comes from, proved by its token."""
        if report is None:
            return None
        owner = self._registry.token_owner(report.token or "")
        if owner is None or report.agent_id not in {None, owner.agent_id}:
            self._reject(msg, "its token proves no instance of that agent")
            return None
        return owner

    def _reject(self, msg: Msg, reason: str) -> None:
        self.rejected += 1
        log.warning("report_rejected", subject=msg.subject, reason=reason[:200])


def _figures(report: MetricsReport) -> dict[str, float]:
    """What can be shown of a report, and fits into an answer: numbers that are some, under names that can be read."""
    shown = ((n, value) for n, value in report.metrics.items() if math.isfinite(value) and len(n) <= _MAX_NAME)
    return dict(itertools.islice(shown, _MAX_FIGURES))
