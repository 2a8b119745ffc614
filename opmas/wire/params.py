"""The parameters of the manager's commands and queries, one model each; an unknown parameter is an error."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from opmas.wire.status import AgentStatus
from opmas.wire.views import Access

# The longest a caller may be kept waiting by one request; beyond it, ask again.
MAX_WAIT_S = 600.0

MAX_REPLICAS = 1000


class Params(BaseModel):
    """What a command or query may be given."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ControlParams(Params):
    """`start`, `stop`, `restart`: answer at once, or after convergence, at most `wait` seconds later."""

    wait: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 0.0


class ScaleParams(ControlParams):
    """`scale`: how many instances there shall be."""

    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS, strict=True)]


class NoParams(Params):
    """A request that takes none."""


class GivenAccess(Access):
    """Who may use an agent, as said by an operator: a mistyped name must not leave it open to all."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AgentFields(Params):
    """What an operator may say of an agent; what is left out stays, or is what its package says."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    type: Annotated[str, Field(max_length=64)] | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    config: dict[str, JsonValue] | None = None
    labels: dict[str, str] | None = None
    enabled: bool | None = None
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS, strict=True)] | None = None
    access: GivenAccess | None = None


class RegisterParams(AgentFields):
    """`register`: a new agent from a package on disk; several agents may come from one."""

    package: Annotated[str, Field(min_length=1, max_length=200)]


class UpdateParams(AgentFields):
    """`update`: replaces what is given; running instances take a new config at once, the rest at their next start."""


class ListParams(Params):
    """`list`: only agents that match all that is given; `label` is `key=value`; `after` is the `next` of an answer."""

    after: str | None = None
    status: AgentStatus | None = None
    type: str | None = None
    label: str | None = None


class LogsParams(Params):
    """`logs`: the last `tail` lines, or those after `after` (the `next` of an earlier answer)."""

    tail: Annotated[int, Field(ge=0, le=10_000)] = 100
    after: str | None = None
    since: datetime | None = None
    stream: Literal["stdout", "stderr"] | None = None
    instance: str | None = None
    grep: str | None = Field(default=None, max_length=256)


class EventsParams(Params):
    """`events`: at most `limit` of them, those after id `after`; without `after`, the latest."""

    after: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class AuditParams(Params):
    """`audit`: at most `limit` rows, those after id `after`; without `after`, the latest."""

    after: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class PackagesParams(Params):
    """`packages`: all, or only those that are (not) registered as agents."""

    registered: bool | None = None
