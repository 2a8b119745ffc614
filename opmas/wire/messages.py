"""Commands, queries and the response that answers either; heartbeats and metrics.

Frozen models; unknown fields are ignored and fields are only ever added, so that versions can meet on one bus. Their
JSON Schemas lie under `tests/contract/`.
"""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from opmas.wire.errors import ErrorBody
from opmas.wire.status import AgentStatus


def now() -> datetime:
    """Tell the wall-clock time in UTC, for timestamps; durations use monotonic clocks."""
    return datetime.now(UTC)


class Message(BaseModel):
    """A thing that travels."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """Return the JSON bytes that go on the wire, without what is unset."""
        return self.model_dump_json(exclude_none=True).encode()


class Command(Message):
    """A request for change. Only `command` and `agent_id` are required of a publisher."""

    command: str = Field(max_length=64)
    agent_id: str = Field(max_length=63)
    params: dict[str, JsonValue] = Field(default_factory=dict)
    timestamp: datetime | None = None


class Query(Message):
    """A request for facts."""

    query: str = Field(max_length=64)
    agent_id: str | None = Field(default=None, max_length=63)
    params: dict[str, JsonValue] = Field(default_factory=dict)
    timestamp: datetime | None = None


class Response(Message):
    """The answer to a command or a query (then `command` is the query's name)."""

    status: Literal["success", "error"]
    command: str
    agent_id: str | None = None
    result: JsonValue = None
    error: ErrorBody | None = None
    timestamp: datetime = Field(default_factory=now)


class Progress(Message):
    """How far an instance is with a long piece of work: `done` of `total` (unit free), with a word for people."""

    done: float
    total: float | None = None
    message: str = ""


class StatusReport(Message):
    """A heartbeat: an instance says "I live". Everything but `status` may be missing from a plain program's."""

    status: AgentStatus = AgentStatus.RUNNING
    agent_id: str | None = None
    instance_id: str | None = None
    token: str | None = None
    pid: int | None = None
    start_count: int | None = None
    in_flight: int = 0
    takes_runs: bool | None = None
    """Whether it has a handler for runs; one that does not say so, like a program without the SDK, has none."""
    loop_lag_ms: float = 0.0
    progress: Progress | None = None
    message: str = ""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    timestamp: datetime | None = None


class MetricsReport(Message):
    """An instance's own figures by name; the manager adds what it samples from outside."""

    metrics: dict[str, float] = Field(default_factory=dict)
    agent_id: str | None = None
    instance_id: str | None = None
    token: str | None = None
    timestamp: datetime | None = None


def success(command: str, agent_id: str | None, result: Any) -> Response:
    """Answer with a result: any JSON value, or a model."""
    value = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
    return Response(status="success", command=command, agent_id=agent_id, result=value)


def failure(command: str, agent_id: str | None, error: ErrorBody) -> Response:
    """Answer with an error."""
    return Response(status="error", command=command, agent_id=agent_id, error=error)
