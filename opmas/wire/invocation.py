"""Runs over HTTP: the bodies that callers send and get, in the camelCase that existing clients expect.

Literal contracts: a field's name here is its name on the wire. Statuses are the four that clients know; what lies
behind them is in `data.reason` and in `RunSummary.detail`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from opmas.wire.documents import Document, Text
from opmas.wire.runs import RunStatus


class Body(BaseModel):
    """A document over HTTP; unknown fields are ignored, so that clients may be newer."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class OutwardStatus(StrEnum):
    """A run's status to HTTP callers."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

    @classmethod
    def of(cls, status: RunStatus) -> "OutwardStatus":
        """Translate: who waits for a human runs, and what ended otherwise than completed has failed."""
        if status is RunStatus.WAITING_CONFIRMATION:
            return cls.RUNNING
        return cls(status.value) if status.value in cls._value2member_map_ else cls.FAILED


class InvokeRequest(Body):
    """Ask an agent; an unknown or missing `sessionId` begins a session.

    `stream` changes nothing by itself: the answer is a stream when the request's `Accept` says so.
    """

    message: Annotated[str, Field(min_length=1)]
    params: Document = Field(default_factory=dict)
    user_id: str | None = Field(default=None, max_length=200)
    session_id: str | None = Field(default=None, max_length=200)
    stream: bool = False
    files: Annotated[tuple[Text, ...], Field(max_length=20)] = ()
    metadata: Document = Field(default_factory=dict)


class RunMetadata(Body):
    """When a run ran, and with what."""

    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    model: str | None = None
    tokens_used: int | None = None
    correlation_id: str | None = None


class RunMessage(Body):
    """One message of a run or a session."""

    role: Literal["user", "assistant", "system"]
    content: str
    timestamp: datetime


class ConfirmationDetails(Body):
    """What a human is asked."""

    tool_name: str
    tool_args: dict[str, JsonValue]
    message: str
    expires_at: datetime


class AgentRunResponse(Body):
    """A run as it is now.

    While it waits for a human, `data` has `requiresConfirmation`, `confirmationId` and `confirmationDetails`; when it
    failed, `error` says why and `data.reason` in a word: failed, cancelled, expired, interrupted, poison, …
    """

    run_id: str
    agent_id: str
    session_id: str | None = None
    status: OutwardStatus
    content: str | None = None
    data: dict[str, JsonValue] | None = None
    error: str | None = None
    metadata: RunMetadata | None = None
    messages: tuple[RunMessage, ...] | None = None


class StreamEvent(Body):
    """One server-sent event of a run. `end` and `error` are the last; their `data` is the run, an `AgentRunResponse`.

    A `chunk` has `content`, the next piece of the answer, or `data`: a tool call (`data.tool`), progress
    (`data.progress`), structured data, or a confirmation that is waited for (`data.requiresConfirmation`).
    """

    type: Literal["start", "chunk", "end", "error"]
    run_id: str
    content: str | None = None
    data: dict[str, JsonValue] | None = None
    error: str | None = None
    timestamp: datetime


class DecisionRequest(Body):
    """A human's yes or no; `arguments` replace those that were asked about."""

    confirmed: bool
    note: str = Field(default="", max_length=10_000)
    arguments: Document | None = None


class RunSummary(Body):
    """A run in a list; `detail` is its status in full."""

    run_id: str
    agent_id: str
    session_id: str
    user_id: str
    status: OutwardStatus
    detail: RunStatus
    message: str
    """The first 200 characters of what was asked."""
    error: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    tokens_used: int | None = None
    parent_run: str | None = None


class RunList(Body):
    """Runs, the newest first; `total` counts all that match."""

    runs: tuple[RunSummary, ...]
    total: int


class SessionView(Body):
    """A session: runs that share a conversation."""

    session_id: str
    agent_id: str
    user_id: str
    title: str
    run_count: int
    message_count: int
    total_tokens: int
    created_at: datetime
    updated_at: datetime


class SessionDetail(SessionView):
    """A session with what was said in it, oldest first."""

    messages: tuple[RunMessage, ...]


class SessionMessages(Body):
    """What was said in a session, oldest first: in the newest thousand of its runs, if it has more."""

    messages: tuple[RunMessage, ...]
    total: int


class SessionList(Body):
    """Sessions, the most recently used first."""

    sessions: tuple[SessionView, ...]
    total: int


class NewSession(Body):
    """A session to begin."""

    agent_id: str
    title: str = Field(default="New Chat", max_length=200)
    user_id: str | None = Field(default=None, max_length=200)
    session_id: str | None = Field(default=None, max_length=200)


class SessionChange(Body):
    """What to change of a session."""

    title: Annotated[str, Field(min_length=1, max_length=200)]


class FileView(Body):
    """A stored file; runs name it by `fileId`."""

    file_id: str
    name: str
    type: str
    size: int


class FileList(Body):
    """The stored files, in the order of the form that brought them."""

    files: tuple[FileView, ...]


class RunAuditEntry(Body):
    """Who did what to a run."""

    id: int
    time: datetime
    workspace_id: str
    actor: str
    action: Literal["run", "confirm", "reject", "cancel"]
    agent_id: str
    run_id: str
    outcome: str


class RunAudit(Body):
    """What was done to runs, oldest first; pass `next` as `after` to go on."""

    audit: tuple[RunAuditEntry, ...]
    next: int
