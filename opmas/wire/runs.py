"""Runs on the bus: how an instance claims them, what it reports of them, and what an agent's manifest says of them.

The API holds the record. An instance asks for work (`Claim`), is given assignments, and sends the events of each run in
frames, which count once they are committed. What HTTP callers see of all this is `opmas.wire.invocation`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from opmas.wire.messages import Message, Progress, now


class RunStatus(StrEnum):
    """Where a run is on its way from request to end; a terminal status is final."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING_CONFIRMATION = "waiting_confirmation"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING_CONFIRMATION)


class OnLost(StrEnum):
    """What becomes of a run whose instance was lost after the handler had been called."""

    NEVER_STARTED = "never_started"
    """Only what never started is given to another instance; the rest is `interrupted`, and the caller decides."""
    RETRY = "retry"
    """The handler may be called again: three times in all."""


class SessionRuns(StrEnum):
    """What becomes of a run whose session has another one under way."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class RunLimits(Message):
    """What a run may use before it is stopped: seconds of its handler, tokens, tool calls; None means any number."""

    wall_time_s: float = 600.0
    tokens: int | None = None
    tool_calls: int | None = None


class RunSpec(Message):
    """How an agent takes runs, as its manifest says."""

    max_runs: int = 8
    """At a time, of each instance."""
    queue: int = 1000
    """Runs that may wait; the next is refused."""
    on_lost: OnLost = OnLost.NEVER_STARTED
    session_runs: SessionRuns = SessionRuns.ENQUEUE
    start_within_s: float = 3600.0
    """A run that has not started by then expires."""
    confirm_within_s: float = 86_400.0
    """A run whose confirmation nobody decided by then expires."""
    limits: RunLimits = RunLimits()


# --- what a run is given ---------------------------------------------------------------------------------------------


class FileRef(Message):
    """A file that a caller has stored: its content is fetched in pieces, see `FilePiece`."""

    file_id: str
    name: str
    type: str
    size: int


class Turn(Message):
    """One message of a session."""

    role: Literal["user", "assistant", "system"]
    content: str
    time: datetime


class RunInput(Message):
    """What the caller asks. The caller's credentials never reach an agent."""

    message: str
    params: dict[str, JsonValue] = Field(default_factory=dict)
    files: tuple[FileRef, ...] = ()
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    workspace_id: str
    user_id: str = ""
    session_id: str
    correlation_id: str = ""


class Decision(Message):
    """What a human said to a confirmation; `arguments` are those approved, edited or not."""

    confirmation_id: str
    confirmed: bool
    note: str = ""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    decided_by: str = ""


class Resumption(Message):
    """The second half of a run that waited for a human: the handler's name, the state it left, and the decision."""

    name: str
    state: JsonValue = None
    decision: Decision


class Assignment(Message):
    """A run given to an instance, for as long as it renews its lease."""

    run_id: str
    epoch: int
    """Grows with each assignment; what bears an older one is refused."""
    next_seq: int
    """The number of the first event to send."""
    lease_s: float
    attempt: int = 1
    input: RunInput
    history: tuple[Turn, ...] = ()
    """What was said before in the session, oldest first; the newest part of it when there is much."""
    limits: RunLimits = RunLimits()
    resume: Resumption | None = None


# --- what an instance says -------------------------------------------------------------------------------------------


class Claim(Message):
    """An instance asks for work, on `agent.{id}.claim`."""

    instance_id: str
    start_count: int = 0
    """How often its slot was started: a newer process of a slot proves that the older is gone."""
    room: int = 1
    """How many runs it can take now."""
    unheard: bool = False
    """The answer to its last claim never came: what that gave it, it does not know of."""


class Claimed(Message):
    """The answer to a claim; no assignments when there is nothing to do."""

    assignments: tuple[Assignment, ...] = ()
    more: bool = False
    """There is more than went into this answer: ask again while there is room."""


class Usage(Message):
    """What a run has used."""

    model: str = ""
    provider: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost: float | None = None
    tool_calls: int = 0


class ToolCall(Message):
    """A tool was called (`result` and `error` are missing), or has ended."""

    id: str
    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    done: bool = False
    result: str | None = None
    error: str | None = None


class ConfirmationRequest(Message):
    """The handler has returned and wants a human to decide; `resume` names the handler to go on with `state`."""

    id: str
    message: str
    tool_name: str = ""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    state: JsonValue = None
    resume: str
    expires_in_s: float | None = None
    """Sooner than the agent's `confirm_within`."""


class RunEnd(Message):
    """How a run ended; `reason` is a word for programs, `error` a sentence for people.

    An instance says completed, failed, cancelled or interrupted; the API ends runs that no instance holds.
    """

    status: RunStatus
    content: str = ""
    data: dict[str, JsonValue] | None = None
    error: str = ""
    reason: str = ""
    usage: Usage | None = None


class EventKind(StrEnum):
    """What an event of a run tells; the field of that name holds it."""

    STARTED = "started"
    """The handler is about to be called; once more for each attempt and each resumption."""
    CHUNK = "chunk"
    TOOL = "tool"
    PROGRESS = "progress"
    AGNO = "agno"
    """One of Agno's own events, passed on as it was."""
    CONFIRMATION = "confirmation"
    END = "end"


class RunEvent(Message):
    """One event of a run. Which number it has follows from its frame."""

    kind: EventKind
    time: datetime = Field(default_factory=now)
    content: str = ""
    """Of a chunk: the next piece of the answer."""
    data: dict[str, JsonValue] | None = None
    """Of a chunk: structured data beside or instead of text."""
    tool: ToolCall | None = None
    progress: Progress | None = None
    agno: str | None = None
    """Agno's JSON, one line."""
    confirmation: ConfirmationRequest | None = None
    end: RunEnd | None = None


class Frame(Message):
    """Events of a run in order, on `agent.{id}.event.{run_id}`; without any it only renews the lease."""

    instance_id: str
    epoch: int
    first_seq: int
    events: tuple[RunEvent, ...] = ()


class FrameReply(Message):
    """What became of a frame.

    `seq` is the last event on record: what is at or below it need not be sent again, what comes next is `seq` + 1. When
    `fenced`, the run is no longer this instance's; `cancel` asks it to stop.
    """

    seq: int = 0
    cancel: bool = False
    fenced: bool = False
    reason: str = ""


class FilePieceRequest(Message):
    """An instance asks for a piece of a file of a run that is its own, on `agent.{id}.file`."""

    instance_id: str
    run_id: str
    file_id: str
    offset: int = 0


class FilePiece(Message):
    """A piece of a file as Base64; `next` is the offset of the one that follows, if any."""

    data: str
    next: int | None = None
