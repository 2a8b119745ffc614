"""Runs and what belongs to them, as rows of the API's tables: frozen, times aware and in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from opmas.wire.messages import now
from opmas.wire.runs import FileRef, FrameReply, RunLimits, RunSpec, RunStatus, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to accept; `session_id` is what the caller named, `run_id` may be chosen by the caller of the ledger."""

    run_id: str
    workspace: str
    user_id: str
    agent_id: str
    session_id: str | None
    message: str
    params: Mapping[str, JsonValue]
    files: tuple[FileRef, ...]
    metadata: Mapping[str, JsonValue]
    correlation_id: str
    """Of the request, whoever made it."""
    request_hash: str
    """Of all that makes the request what it is; two requests with one hash ask for the same."""
    idempotency_key: str | None
    actor: str
    spec: RunSpec
    parent_run: str | None = None
    repeats: bool = True
    """Whether an equal request of this correlation id is the same, sent again; not where the API made the id."""
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRow:
    """What a human is or was asked; `confirmed` is None until decided."""

    id: str
    run_id: str
    message: str
    tool_name: str
    arguments: Mapping[str, JsonValue]
    resume: str
    state: JsonValue
    expires_at: datetime
    requested_at: datetime
    confirmed: bool | None = None
    note: str = ""
    decided_arguments: Mapping[str, JsonValue] | None = None
    decided_by: str = ""
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as the record has it. `owner` is the instance that holds it, under a lease and an epoch."""

    id: str
    workspace: str
    user_id: str
    agent_id: str
    session_id: str
    status: RunStatus
    message: str
    params: Mapping[str, JsonValue]
    files: tuple[FileRef, ...]
    metadata: Mapping[str, JsonValue]
    correlation_id: str
    created_at: datetime
    start_by: datetime
    """When it expires unless an instance has taken it; later again after a decision or a lost attempt."""
    spec: RunSpec
    seq: int = 0
    """The number of the last event on record."""
    epoch: int = 0
    started_epoch: int = 0
    """The epoch in which its handler was last called; below `epoch`, the present owner has not called it yet."""
    attempt: int = 0
    owner: str | None = None
    owner_start: int = 0
    lease_until: datetime | None = None
    stop_by: datetime | None = None
    """When its handler has had all the time it may take."""
    cancel_requested: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    content: str | None = None
    data: Mapping[str, JsonValue] | None = None
    error: str | None = None
    reason: str = ""
    usage: Usage | None = None
    parent_run: str | None = None
    confirmation: ConfirmationRow | None = None
    """The one that is waited for, or was decided last."""
    number: int = 0
    """The order of arrival; 0 in what is not read from the record."""
    continues: bool = False
    """Whether its session was there before."""

    @property
    def limits(self) -> RunLimits:
        """What it may use."""
        return self.spec.limits


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run on record: `created` by this request, or found because an earlier one asked for the same.

    `interrupted` are runs of the same session that this one puts an end to.
    """

    run: RunRow
    created: bool
    interrupted: tuple[RunRow, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event on record: its number, which is the id of its server-sent event, and the JSON of a `RunEvent`."""

    seq: int
    json: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a frame: the answer, the events that are new on record, and the run if its status changed.

    `is_followed` when the run was given up and another one of its session can now be claimed.
    """

    reply: FrameReply
    events: tuple[StoredEvent, ...] = ()
    run: RunRow | None = None
    is_followed: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A run after something was done to it other than by a frame, and the events which that added.

    Whoever held it is to be told to stop when `run.cancel_requested` or when `dropped` names an instance.
    """

    run: RunRow
    events: tuple[StoredEvent, ...] = ()
    changed: bool = True
    """False when nothing was left to do: the run had ended already."""
    dropped: str | None = None
    """The instance from which the run was taken."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one look over all runs under way has changed, and which agents have runs to claim."""

    changed: tuple[Changed, ...]
    agents_with_work: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list; None means any."""

    workspace: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    status: RunStatus | None = None
    since: datetime | None = None
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions to list; None means any."""

    workspace: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session; its messages are those of its runs."""

    id: str
    workspace: str
    agent_id: str
    user_id: str
    title: str
    run_count: int = 0
    message_count: int = 0
    total_tokens: int = 0
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A stored file, without its content."""

    id: str
    workspace: str
    user_id: str
    name: str
    type: str
    size: int
    sha256: str
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAuditRow:
    """Who did what to a run."""

    id: int = 0
    time: datetime = field(default_factory=now)
    workspace: str
    actor: str
    action: Literal["run", "confirm", "reject", "cancel"]
    agent_id: str
    run_id: str
    outcome: str
