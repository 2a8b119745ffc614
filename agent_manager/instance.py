"""One slot of an agent and what is known of the process in it; `supervisor.py` drives it.

Durations are counted on the monotonic clock (`*_mono`, seconds), what people see on the wall clock.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from agent_manager.ending import CANNOT_INSTALL
from agent_manager.installing import InstallFailed
from agent_manager.lifecycle import ALIVE, Phase, status_of
from agent_manager.models import CANNOT_USE_MODEL
from agent_manager.nats.sources import Login
from agent_manager.process.slot import Shim, Slot
from agent_manager.restart import CrashRecord
from agent_manager.sampling import Sample
from agent_manager.store.rows import InstanceRow
from opmas.wire.ids import instance_id
from opmas.wire.manifest import Manifest
from opmas.wire.messages import StatusReport
from opmas.wire.status import AgentStatus
from opmas.wire.views import InstanceView, LastExit

_EXIT = TypeAdapter(LastExit)


@dataclass(slots=True, eq=False)
class Instance:
    """The place of one process: ordinal `ordinal` of agent `agent_id`."""

    agent_id: str
    ordinal: int
    node: str
    slot: Slot
    phase: Phase = Phase.IDLE
    # The agent's epoch when this process was launched; an older one than the agent's makes way.
    epoch: int = -1
    # What the process was launched from: its package may have changed since.
    manifest: Manifest | None = None
    shim: Shim | None = None
    login: Login | None = None
    token: str = ""
    # The venv it was launched in, and what it waits for while that is being made.
    venv: Path | None = None
    preparing: asyncio.Future[Path | InstallFailed] | None = None
    start_count: int = 0
    restarts: int = 0
    crashes: CrashRecord = field(default_factory=CrashRecord)
    retry: asyncio.TimerHandle | None = None
    next_retry_at: datetime | None = None
    started_at: datetime | None = None
    launched_mono: float = 0.0
    ready_mono: float | None = None
    beat_mono: float = 0.0
    last_heartbeat: datetime | None = None
    last_exit: LastExit | None = None
    reason: str = ""
    # Why the manager itself is ending the process (`hang`, `start_timeout`): the exit alone would not tell.
    verdict: str = ""
    report: StatusReport | None = None
    custom: dict[str, float] = field(default_factory=dict)
    sample: Sample | None = None

    @property
    def id(self) -> str:
        """`{agent}-{ordinal}`."""
        return instance_id(self.agent_id, self.ordinal)

    @property
    def status(self) -> AgentStatus:
        """The public word for the phase."""
        return status_of(self.phase)

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.phase in ALIVE

    @property
    def busy(self) -> bool:
        """Whether there is a process, or is about to be."""
        return self.alive or self.phase in {Phase.LAUNCHING, Phase.WAITING}

    @property
    def unfounded(self) -> bool:
        """Whether it was given up because what its manifest asks for (dependencies, models) could not be had."""
        why = self.last_exit.reason if self.last_exit is not None else ""
        return self.phase is Phase.FAILED and why.startswith((CANNOT_INSTALL, CANNOT_USE_MODEL))

    @property
    def heard(self) -> bool:
        """Whether this process has said that it is ready, be it before its launch was reported to us."""
        return self.report is not None and self.report.status is not AgentStatus.STARTING

    @property
    def takes_runs(self) -> bool | None:
        """Whether it has a handler for runs; a program that beats and does not say so has none, nor has a mute one."""
        if self.manifest is not None and self.manifest.heartbeat.process:
            return False
        return None if self.report is None else bool(self.report.takes_runs)

    @property
    def pid(self) -> int | None:
        """The instance's own pid, not the shim's."""
        return self.shim.state.pid if self.shim is not None else None

    def healthy_s(self) -> float:
        """How long it has been ready."""
        return 0.0 if self.ready_mono is None else time.monotonic() - self.ready_mono

    def beat(self, report: StatusReport) -> None:
        """Take note of a heartbeat."""
        self.beat_mono = time.monotonic()
        self.last_heartbeat = datetime.now(UTC)
        self.report = report

    def launching(self, epoch: int, window_s: float) -> None:
        """Forget the last process: a new one is on its way."""
        self.epoch = epoch
        self.start_count += 1
        self.crashes.launched(time.monotonic(), window_s)
        self.next_retry_at = self.ready_mono = self.report = self.sample = None
        self.custom = {}
        self.reason = self.verdict = ""

    def launched(self, shim: Shim) -> None:
        """Take the process over, newly made or found alive."""
        self.shim = shim
        self.start_count = shim.state.start_count
        self.started_at = datetime.fromtimestamp(shim.state.started_at, UTC)
        self.launched_mono = self.beat_mono = time.monotonic()

    def row(self) -> InstanceRow:
        """What the database keeps of it."""
        return InstanceRow(
            agent_id=self.agent_id,
            ordinal=self.ordinal,
            node=self.node,
            status=self.status,
            pid=self.pid,
            start_count=self.start_count,
            restarts=self.restarts,
            started_at=self.started_at,
            last_heartbeat=self.last_heartbeat,
            next_retry_at=self.next_retry_at,
            reason=self.reason,
            last_exit=None if self.last_exit is None else self.last_exit.model_dump(mode="json"),
        )

    def restore(self, row: InstanceRow) -> None:
        """Take over what the last manager knew; what lives is adopted besides."""
        self.start_count = max(self.start_count, row.start_count)
        self.restarts = row.restarts
        self.last_heartbeat = row.last_heartbeat
        self.reason = row.reason
        self.last_exit = None if row.last_exit is None else _EXIT.validate_python(row.last_exit)

    def view(self) -> InstanceView:
        """What the world sees of it."""
        up = self.alive and self.started_at is not None
        return InstanceView(
            id=self.id,
            pid=self.pid,
            node=self.node,
            status=self.status,
            uptime_s=round((datetime.now(UTC) - self.started_at).total_seconds(), 3)
            if up and self.started_at
            else None,
            restarts=self.restarts,
            last_heartbeat=self.last_heartbeat,
            cpu_percent=self.sample.cpu_percent if self.sample else None,
            memory_bytes=self.sample.memory_bytes if self.sample else None,
            last_exit=self.last_exit,
            reason=self.reason,
            next_retry_at=self.next_retry_at,
            takes_runs=self.takes_runs,
        )
