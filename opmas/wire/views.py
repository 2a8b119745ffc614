"""What queries answer: agents, instances, logs, events, packages and nodes as the world sees them.

These are the bodies of the management API, literally; the manager builds them, and nobody else.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue

from opmas.wire.messages import Message
from opmas.wire.runs import RunSpec
from opmas.wire.status import AgentStatus, Desired


class LastExit(Message):
    """How an instance last ended: `exit_code` or `signal`, and why in a word (`crash`, `stopped`, `killed`, …)."""

    exit_code: int | None = None
    signal: int | None = None
    terminated_at: datetime
    reason: str


class InstanceView(Message):
    """One running process of an agent, or the place of one."""

    id: str
    pid: int | None = None
    node: str
    status: AgentStatus
    uptime_s: float | None = None
    restarts: int = 0
    last_heartbeat: datetime | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    last_exit: LastExit | None = None
    reason: str = ""
    next_retry_at: datetime | None = None
    takes_runs: bool | None = None
    """Whether it has a handler for runs; unknown before its first heartbeat."""


class Access(Message):
    """Who may see and use an agent: callers of these workspaces with one of these roles; empty means any."""

    workspaces: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class AgentView(Message):
    """An agent, whole. `reason` says in a sentence why it is what it is; it is empty when all is well."""

    id: str
    name: str
    type: str
    version: str
    description: str
    package: str
    status: AgentStatus
    desired: Desired
    enabled: bool
    replicas: int
    capabilities: tuple[str, ...] = ()
    config: dict[str, JsonValue] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    access: Access = Access()
    instances: tuple[InstanceView, ...] = ()
    runs: RunSpec = RunSpec()
    """How it takes runs, if it has a handler for them."""
    reason: str = ""
    next_retry_at: datetime | None = None
    created_at: datetime
    updated_at: datetime


class AgentList(Message):
    """Every agent of the fleet, by id; with `next`, as many as fit into one message, and more come `after` it."""

    agents: tuple[AgentView, ...]
    total: int
    next: str | None = None


class ControlResult(Message):
    """What became of a command: `accepted` once committed; `status` is the agent's at the time of the answer.

    `changed` says whether anything is wanted now that was not wanted before; starting what runs changes nothing.
    """

    accepted: bool
    generation: int
    status: AgentStatus
    changed: bool = False


class StatusDetails(Message):
    """The facts behind a status."""

    last_heartbeat: datetime | None = None
    last_seen: datetime | None = None
    exit_code: int | None = None
    terminated_at: datetime | None = None
    reason: str = ""


class StatusView(Message):
    """An agent's status and its health as it says itself."""

    agent_id: str
    status: AgentStatus
    timestamp: datetime
    health: Literal["healthy", "unhealthy", "unknown"]
    details: StatusDetails
    instances: tuple[InstanceView, ...] = ()


class ConfigView(Message):
    """An agent's config as its instances get it, which is what its operator gave, laid over its package's defaults.

    `json_schema` is the package's; empty when it allows anything.
    """

    agent_id: str
    config: dict[str, JsonValue]
    given: dict[str, JsonValue]
    defaults: dict[str, JsonValue]
    json_schema: dict[str, JsonValue]


class MetricValues(Message):
    """Figures sampled from outside (`cpu_percent` of one core, `memory_bytes` resident) and the agent's own."""

    cpu_percent: float | None = None
    memory_bytes: int | None = None
    open_files: int | None = None
    threads: int | None = None
    custom: dict[str, float] = Field(default_factory=dict)


class InstanceMetrics(Message):
    """The figures of one instance."""

    id: str
    metrics: MetricValues


class MetricsView(Message):
    """The figures of an agent, summed over its instances, and of each."""

    agent_id: str
    timestamp: datetime
    metrics: MetricValues
    instances: tuple[InstanceMetrics, ...] = ()


class LogLine(Message):
    """One line that an instance wrote."""

    time: datetime
    stream: Literal["stdout", "stderr"]
    instance: str
    line: str


class LogsView(Message):
    """Lines in order of time; `next` continues after the last of them."""

    agent_id: str
    lines: tuple[LogLine, ...]
    next: str


class Cause(Message):
    """Why a status changed: who (`actor`), by which command, the exit, and the last words.

    `code` names the kind of an end for programs: `crash`, `killed`, `hang`, `stopped`, ….
    """

    actor: str = ""
    command: str = ""
    code: str = ""
    detail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    last_lines: tuple[str, ...] = ()
    correlation_id: str = ""


class EventView(Message):
    """One change, in the order of `id`."""

    id: int
    time: datetime
    node: str
    agent_id: str
    instance_id: str = ""
    kind: str
    status: AgentStatus | None = None
    cause: Cause


class EventsView(Message):
    """Events after the one asked for."""

    events: tuple[EventView, ...]
    next: int


class Step(Message):
    """One link of a causal chain: what happened, when, and by whom."""

    time: datetime | None = None
    actor: str = ""
    what: str


class WhyView(Message):
    """The shortest chain that explains an agent's status, the cause first, and what to do about it.

    `code` names the kind of cause for programs (`crash_loop`, `stopped_by_command`, `waiting_for_dependency`, …).
    """

    agent_id: str
    status: AgentStatus
    code: str
    summary: str
    hint: str = ""
    steps: tuple[Step, ...] = ()
    next_retry_at: datetime | None = None
    last_lines: tuple[str, ...] = ()


class AuditEntry(Message):
    """Who commanded what, and how it was answered."""

    id: int
    time: datetime
    node: str
    publisher: str
    command: str
    agent_id: str
    params: dict[str, JsonValue] = Field(default_factory=dict)
    outcome: str
    error_code: str = ""
    correlation_id: str = ""


class AuditView(Message):
    """Audit rows after the one asked for."""

    audit: tuple[AuditEntry, ...]
    next: int


class PackageView(Message):
    """A package on disk, registered or broken."""

    name: str
    folder: str
    version: str = ""
    registered: bool
    error: str = ""
    hint: str = ""


class PackageList(Message):
    """Every package the node sees."""

    packages: tuple[PackageView, ...]
    total: int


class NodeView(Message):
    """One running AgentManager."""

    id: str
    version: str
    pid: int
    status: Literal["ready", "starting", "draining"]
    started_at: datetime
    agents: int
    instances: int
    database: Literal["ok", "unavailable"]
    isolation: str
    cpu_percent: float | None = None
    memory_bytes: int | None = None


class NodeList(Message):
    """Every node of the fleet."""

    nodes: tuple[NodeView, ...]
    total: int


class HealthView(Message):
    """Whether a manager can do its work, with a word for each part."""

    status: Literal["ok", "degraded", "starting"]
    node: str
    version: str
    checks: dict[str, str]
    agents: int
    uptime_s: float
