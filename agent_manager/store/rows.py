"""What the manager remembers: one frozen dataclass per table, the only shape in which records leave the store.

Times are aware and in UTC. JSON columns are plain JSON values. Change a row with `dataclasses.replace` and save it.
"""

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from opmas.wire.messages import now
from opmas.wire.status import AgentStatus, Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """A registered agent and what its operator wants of it.

    `generation` counts changes of what is wanted, `epoch` counts restarts asked for. A `deleted` row is a tombstone: it
    keeps discovery from registering the package again. `given` names the fields that an operator has said himself: what
    the package says of those is not asked any more.
    """

    id: str
    package: str
    name: str
    type: str = ""
    version: str = ""
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    config: dict[str, JsonValue] = field(default_factory=dict)
    enabled: bool = True
    desired: Desired = Desired.STOPPED
    replicas: int = 1
    epoch: int = 0
    generation: int = 0
    node: str | None = None
    deleted: bool = False
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    access: dict[str, JsonValue] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)

    @property
    def by_hand(self) -> bool:
        """Whether an operator has registered it; the others come and go with their packages."""
        return "package" in self.given


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """The last known condition of one slot of an agent."""

    agent_id: str
    ordinal: int
    node: str
    status: AgentStatus = AgentStatus.STOPPED
    pid: int | None = None
    start_count: int = 0
    restarts: int = 0
    started_at: datetime | None = None
    last_heartbeat: datetime | None = None
    next_retry_at: datetime | None = None
    reason: str = ""
    last_exit: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened to an agent or to one of its instances, and why. The store gives it its id."""

    node: str
    agent_id: str
    kind: str
    instance_id: str | None = None
    status: AgentStatus | None = None
    cause: dict[str, JsonValue] = field(default_factory=dict)
    time: datetime = field(default_factory=now)
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who commanded what, and how it was answered. The store gives it its id."""

    node: str
    publisher: str
    command: str
    agent_id: str
    outcome: str
    params: dict[str, JsonValue] = field(default_factory=dict)
    error_code: str | None = None
    correlation_id: str | None = None
    time: datetime = field(default_factory=now)
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node and the lease of the manager that runs it.

    `incarnation` names one life of a manager; `generation` counts the lives; `lease_until` is on the database's clock.
    """

    id: str
    incarnation: str
    generation: int
    lease_until: datetime
    started_at: datetime
    version: str = ""
