"""The queries, from `list` to `nodes`: they answer from what the manager knows, and change nothing."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeVar

import psutil

from agent_manager.bus_health import BusHealth
from agent_manager.catalog import Catalog
from agent_manager.instance import Instance
from agent_manager.logs import read_logs
from agent_manager.paging import fitting
from agent_manager.process.confine import landlock_abi
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.sampling import handles
from agent_manager.store import Store
from opmas import __version__
from opmas.wire.errors import InvalidRequest
from opmas.wire.manifest import merged_config
from opmas.wire.messages import now
from opmas.wire.params import ListParams, LogsParams, PackagesParams
from opmas.wire.status import AgentStatus
from opmas.wire.views import (
    AgentList,
    AgentView,
    ConfigView,
    HealthView,
    InstanceMetrics,
    LogsView,
    MetricsView,
    MetricValues,
    NodeList,
    NodeView,
    PackageList,
    PackageView,
    StatusDetails,
    StatusView,
)

NodeCondition = Literal["ready", "starting", "draining"]
N = TypeVar("N", int, float)


class Queries:
    """Answers questions from the registry, the slots and the store."""

    def __init__(
        self,
        registry: AgentRegistry,
        catalog: Catalog,
        store: Store,
        recorder: Recorder,
        bus_health: BusHealth,
        condition: Callable[[], NodeCondition],
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._store = store
        self._recorder = recorder
        self._bus_health = bus_health
        self._condition = condition
        self._started_at = datetime.now(UTC)
        self._started_mono = time.monotonic()

    def list(self, params: ListParams) -> AgentList:
        """Every agent that matches, page by page if they are too many for one message."""
        key, _, value = (params.label or "").partition("=")
        views = tuple(
            view
            for view in (record.view() for record in self._registry)
            if (params.status is None or view.status is params.status)
            and (params.type is None or view.type == params.type)
            and (params.label is None or view.labels.get(key) == value)
        )
        rest = [view for view in views if params.after is None or view.id > params.after]
        page = fitting(rest)
        return AgentList(agents=page, total=len(views), next=page[-1].id if len(page) < len(rest) else None)

    def get(self, agent_id: str) -> AgentView:
        """One agent."""
        return self._registry.get(agent_id).view()

    def status(self, agent_id: str) -> StatusView:
        """One agent's status with its facts."""
        record = self._registry.get(agent_id)
        instances = record.ordered()
        beats = [i.last_heartbeat for i in instances if i.last_heartbeat is not None]
        exits = sorted((i.last_exit for i in instances if i.last_exit is not None), key=lambda e: e.terminated_at)
        last_exit = exits[-1] if exits else None
        last_beat = max(beats, default=None)
        return StatusView(
            agent_id=agent_id,
            status=record.status,
            timestamp=now(),
            health=_health(record),
            details=StatusDetails(
                last_heartbeat=last_beat,
                last_seen=now() if record.alive else last_beat,
                exit_code=last_exit.exit_code if last_exit else None,
                terminated_at=last_exit.terminated_at if last_exit else None,
                reason=record.reason or (last_exit.reason if last_exit and not record.alive else ""),
            ),
            instances=tuple(instance.view() for instance in instances),
        )

    def config(self, agent_id: str) -> ConfigView:
        """One agent's config. Raises `PackageInvalid` when its package cannot be used."""
        record = self._registry.get(agent_id)
        settings = record.manifest().config
        return ConfigView(
            agent_id=agent_id,
            config=merged_config(settings.defaults, record.row.config),
            given=record.row.config,
            defaults=settings.defaults,
            json_schema=settings.json_schema,
        )

    async def metrics(self, agent_id: str) -> MetricsView:
        """One agent's figures."""
        record = self._registry.get(agent_id)
        parts = await asyncio.to_thread(lambda: tuple(_metrics(i) for i in record.ordered() if i.alive))
        return MetricsView(
            agent_id=agent_id, timestamp=now(), metrics=_sum([part.metrics for part in parts]), instances=parts
        )

    async def logs(self, agent_id: str, params: LogsParams) -> LogsView:
        """What one agent's instances wrote, merged by time."""
        record = self._registry.get(agent_id)
        chosen = [i for i in record.ordered() if params.instance in {None, i.id}]
        if params.instance is not None and not chosen:
            raise InvalidRequest(
                f"agent {agent_id!r} has no instance {params.instance!r}",
                f"its instances are {', '.join(i.id for i in record.ordered()) or 'none'}",
            )
        return await asyncio.to_thread(read_logs, agent_id, chosen, params)

    def packages(self, params: PackagesParams) -> PackageList:
        """What lies on disk."""
        views = tuple(
            view
            for package in self._catalog.packages()
            for view in [
                PackageView(
                    name=package.name,
                    folder=package.folder.name,
                    version=package.manifest.version if package.manifest else "",
                    registered=package.manifest is not None and bool(self._registry.made_from(package)),
                    error=package.error.message if package.error else "",
                    hint=package.error.hint if package.error else "",
                )
            ]
            if params.registered in {None, view.registered}
        )
        return PackageList(packages=views, total=len(views))

    def nodes(self) -> NodeList:
        """The managers; with one node, this one."""
        process = psutil.Process()
        node = NodeView(
            id=self._registry.node,
            version=__version__,
            pid=os.getpid(),
            status=self._condition(),
            started_at=self._started_at,
            agents=len(self._registry),
            instances=sum(instance.alive for instance in self._registry.instances()),
            database="ok" if self._recorder.database_ok else "unavailable",
            isolation=f"landlock {landlock_abi()}" if landlock_abi() else "rlimits",
            memory_bytes=process.memory_info().rss,
        )
        return NodeList(nodes=(node,), total=1)

    def health(self) -> HealthView:
        """Whether this manager can do its work."""
        condition = self._condition()
        database = "ok" if self._recorder.database_ok else "unavailable"
        return HealthView(
            status="starting" if condition == "starting" else ("ok" if database == "ok" else "degraded"),
            node=self._registry.node,
            version=__version__,
            checks={
                "manager": "ok" if condition == "ready" else condition,
                "nats": "ok" if self._bus_health.connected else "unavailable",
                "database": database,
            },
            agents=len(self._registry),
            uptime_s=round(time.monotonic() - self._started_mono, 3),
        )


def _health(record: AgentRecord) -> Literal["healthy", "unhealthy", "unknown"]:
    running = [i for i in record.ordered() if i.status is AgentStatus.RUNNING]
    if not running or any(i.report is None for i in running):
        return "unhealthy" if record.status in {AgentStatus.ERROR, AgentStatus.INACTIVE} else "unknown"
    well = all(i.report is not None and i.report.status is not AgentStatus.ERROR for i in running)
    return "healthy" if well and record.status is AgentStatus.RUNNING else "unhealthy"


def _metrics(instance: Instance) -> InstanceMetrics:
    counted = handles(instance.pid) if instance.pid is not None else None
    return InstanceMetrics(
        id=instance.id,
        metrics=MetricValues(
            cpu_percent=instance.sample.cpu_percent if instance.sample else None,
            memory_bytes=instance.sample.memory_bytes if instance.sample else None,
            open_files=counted.open_files if counted else None,
            threads=counted.threads if counted else None,
            custom=instance.custom,
        ),
    )


def _sum(parts: list[MetricValues]) -> MetricValues:
    custom: dict[str, float] = {}
    for part in parts:
        for name, value in part.custom.items():
            custom[name] = custom.get(name, 0.0) + value
    return MetricValues(
        cpu_percent=_total([part.cpu_percent for part in parts]),
        memory_bytes=_total([part.memory_bytes for part in parts]),
        open_files=_total([part.open_files for part in parts]),
        threads=_total([part.threads for part in parts]),
        custom=custom,
    )


def _total(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None
