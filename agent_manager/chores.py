"""What the manager does on its own, again and again: judge liveness, sample, renew, clean up; each a named side task.

A chore that fails for want of the database or NATS tries again at its next turn; one that fails otherwise ends the
manager, which is honest, and whoever supervises it starts another that adopts everything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from agent_manager.bus_health import BusHealth
from agent_manager.catalog import Catalog
from agent_manager.instance import Instance
from agent_manager.liveness import PAUSED_AFTER_S, TICK_S, Pulse, verdict
from agent_manager.reconcile import Reconciler
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.sampling import sample
from agent_manager.sd_notify import keep_alive
from agent_manager.settings import ServiceSettings
from agent_manager.store import Store
from agent_manager.supervisor import Supervisor
from opmas.wire.errors import Conflict, OpmasError
from opmas.wire.manifest import OnHang
from opmas.wire.messages import now

log = structlog.get_logger(__name__)

# How long a lost wake-up can delay convergence.
RECONCILE_S = 5.0
LEASE_S = 15.0
_RENEW_LEASE_S = 5.0
# The first sample is what the second one is compared with.
_FIRST_SAMPLE_S = 1.0
# Credentials live for a day and are renewed at half of it: minutes do not matter.
_CHECK_CREDENTIALS_S = 600.0


class Chores:
    """The side tasks of one manager."""

    def __init__(
        self,
        registry: AgentRegistry,
        supervisor: Supervisor,
        reconciler: Reconciler,
        catalog: Catalog,
        recorder: Recorder,
        store: Store,
        bus_health: BusHealth,
        settings: ServiceSettings,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._reconciler = reconciler
        self._catalog = catalog
        self._recorder = recorder
        self._store = store
        self._bus_health = bus_health
        self._settings = settings

    def by_name(self, incarnation: str) -> dict[str, Coroutine[Any, Any, None]]:
        """Every chore, ready to become a task."""

        async def reconcile() -> None:
            self._reconciler.reconcile_all()
            await self._catalog.sweep()

        async def renew_lease() -> None:
            await self._store.renew_node(self._settings.node, incarnation, LEASE_S)

        return {
            "watchdog": keep_alive(),
            "recorder": self._recorder.run(),
            "liveness": self._judge(),
            "reconcile": _every(RECONCILE_S, reconcile),
            "sampling": _every(self._settings.monitoring_interval, self._sample, _FIRST_SAMPLE_S),
            "lease": _every(_RENEW_LEASE_S, renew_lease),
            "cleanup": _every(self._settings.cleanup_interval, self._clean_up),
            "credentials": _every(_CHECK_CREDENTIALS_S, self._renew_credentials, first_after_s=0.0),
        }

    async def _judge(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            at = time.monotonic()
            if at - last > PAUSED_AFTER_S:
                self._bus_health.interrupted()
                log.warning("paused", seconds=round(at - last, 1), consequence="verdicts wait for fresh heartbeats")
            last = at
            for record in self._registry:
                for instance in record.ordered():
                    self._judge_one(record, instance, at)

    def _judge_one(self, record: AgentRecord, instance: Instance, at: float) -> None:
        manifest = record.manifest_of(instance)
        if manifest is None or not instance.alive:
            return
        pulse = Pulse(
            phase=instance.phase,
            launched_mono=instance.launched_mono,
            beat_mono=instance.beat_mono,
            beats=not manifest.heartbeat.process,
            interval_s=manifest.heartbeat.interval,
            timeout_s=manifest.heartbeat.timeout,
            start_timeout_s=manifest.start_timeout,
            restart_on_hang=manifest.on_hang is OnHang.RESTART,
        )
        event = verdict(pulse, at, self._bus_health.good_since)
        if event is not None:
            self._supervisor.condemn(record, instance, event, round(at - instance.beat_mono, 1))

    async def _sample(self) -> None:
        by_pid = {i.pid: i for i in self._registry.instances() if i.alive and i.pid is not None}
        before = {pid: i.sample for pid, i in by_pid.items() if i.sample is not None}
        for pid, taken in (await asyncio.to_thread(sample, list(by_pid), before)).items():
            by_pid[pid].sample = taken
            # last_heartbeat goes to the database with these, once per interval and not once per beat.
            self._recorder.touch(by_pid[pid])

    async def _clean_up(self) -> None:
        removed = await self._store.prune(now() - timedelta(days=self._settings.retention_days))
        if removed:
            log.info("pruned", rows=removed)
        await self._supervisor.clean_up()

    async def _renew_credentials(self) -> None:
        for record in self._registry:
            for instance in record.ordered():
                login = instance.login
                # Of one that was found alive we only know that it has a file: from now on we know it all.
                unknown = login is None
                due = login is not None and login.renew_at is not None and login.renew_at < time.time()
                if instance.alive and (unknown or due):
                    await self._renew(record, instance)

    async def _renew(self, record: AgentRecord, instance: Instance) -> None:
        try:
            await self._supervisor.renew(record, instance)
        except (OpmasError, OSError) as error:  # the others' must be renewed all the same
            log.warning("credentials_not_renewed", instance=instance.id, reason=str(error))


async def _every(interval_s: float, chore: Callable[[], Awaitable[None]], first_after_s: float | None = None) -> None:
    await asyncio.sleep(interval_s if first_after_s is None else first_after_s)
    while True:
        try:
            await chore()
        except Conflict:
            raise  # another manager has taken this node over
        except OpmasError as error:
            log.warning("chore_failed", chore=getattr(chore, "__name__", "?").strip("_"), reason=error.message)
        await asyncio.sleep(interval_s)
