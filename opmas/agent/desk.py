"""The other side of runs, for tests of agents: accepts runs, answers claims and frames, keeps what is reported.

By the rules of the real one (order, fencing, numbers), without its database, leases and policies.
"""

import asyncio
from base64 import b64encode
from dataclasses import dataclass, field
from mimetypes import guess_type
from typing import Any
from uuid import uuid4

from pydantic import JsonValue

from opmas.agent.runs.kept import kept_by
from opmas.bus import AnyBus, AnySubscription, Msg
from opmas.wire import subjects
from opmas.wire.errors import FileNotFound
from opmas.wire.messages import failure
from opmas.wire.runs import (
    Assignment,
    Claim,
    Claimed,
    ConfirmationRequest,
    Decision,
    EventKind,
    FilePiece,
    FilePieceRequest,
    FileRef,
    Frame,
    FrameReply,
    Resumption,
    RunEvent,
    RunInput,
    RunLimits,
    RunStatus,
    Turn,
    Usage,
)

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run so far."""

    run_id: str
    status: RunStatus
    content: str
    """What was said so far: its chunks, joined."""
    data: dict[str, JsonValue] | None
    error: str
    reason: str
    events: tuple[RunEvent, ...]
    confirmation: ConfirmationRequest | None
    usage: Usage | None


@dataclass(eq=False, slots=True)
class Entry:
    """One run on record."""

    assignment: Assignment
    status: RunStatus = RunStatus.PENDING
    claimable: bool = True
    cancel: bool = False
    events: list[RunEvent] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether it has ended, or waits for a human."""
        return self.status.is_terminal or self.status is RunStatus.WAITING_CONFIRMATION

    def record(self, frame: Frame) -> FrameReply:
        """Record what is new in `frame`."""
        seq, first = len(self.events), frame.first_seq
        if frame.epoch != self.assignment.epoch:
            return FrameReply(fenced=True, reason="the run was assigned again")
        if not self.settled and first <= seq + 1:
            for event in frame.events[seq + 1 - first :]:
                self._append(event)
        return FrameReply(seq=len(self.events), cancel=self.cancel)

    def _append(self, event: RunEvent) -> None:
        self.events.append(event)
        if event.kind is EventKind.STARTED:
            self.status = RunStatus.RUNNING
        elif event.kind is EventKind.CONFIRMATION:
            self.status = RunStatus.WAITING_CONFIRMATION
        elif event.end is not None:
            self.status = event.end.status

    def assign(self) -> Assignment:
        """Give the run away, for the first time or again."""
        again = {"epoch": self.assignment.epoch + 1, "next_seq": len(self.events) + 1}
        self.assignment = self.assignment.model_copy(update=again)
        self.claimable = False
        return self.assignment

    def result(self) -> RunResult:
        """Show it."""
        last = self.events[-1] if self.events else None
        end = last.end if last else None
        asked = last.confirmation if last else None
        return RunResult(
            run_id=self.assignment.run_id,
            status=self.status,
            content="".join(event.content for event in self.events),
            data=end.data if end else None,
            error=end.error if end else "",
            reason=end.reason if end else "",
            events=tuple(self.events),
            confirmation=asked and asked.model_copy(update={"state": kept_by(asked)}),
            usage=end.usage if end else None,
        )


class Desk:
    """Accepts runs for one agent on `bus`; `async with asyncio.timeout(…)` is for the caller."""

    def __init__(self, agent_id: str, bus: AnyBus, *, lease_s: float = 30.0) -> None:
        self._agent_id = agent_id
        self._bus = bus
        self._lease_s = lease_s
        self._files: dict[str, bytes] = {}
        self._subscriptions: list[AnySubscription] = []
        self._news = asyncio.Condition()
        self.runs: dict[str, Entry] = {}

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Listen to the instances."""
        listened = {
            subjects.claim(self._agent_id): self.take_claim,
            subjects.frame(self._agent_id, "*"): self.take_frame,
            subjects.file(self._agent_id): self.take_file,
        }
        for subject, handler in listened.items():
            self._subscriptions.append(await self._bus.subscribe(subject, handler, tasks=tasks))
        await self._bus.flush()

    async def close(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            await subscription.drain()
        self._subscriptions.clear()

    # --- what instances ask ------------------------------------------------------------------------------------------

    async def take_claim(self, msg: Msg) -> None:
        """Give runs away."""
        claim = Claim.model_validate_json(msg.data)
        for entry in self.runs.values():
            entry.claimable |= claim.unheard and entry.status is RunStatus.PENDING
        given = [entry for entry in self.runs.values() if entry.claimable][: claim.room]
        await self._bus.respond(msg, Claimed(assignments=tuple(entry.assign() for entry in given)))

    async def take_frame(self, msg: Msg) -> None:
        """Record a frame."""
        await self._bus.respond(msg, await self.record(msg))

    async def record(self, msg: Msg) -> FrameReply:
        """Record a frame; return the answer to it."""
        async with self._news:
            reply = self.runs[subjects.run_of(msg.subject)].record(Frame.model_validate_json(msg.data))
            self._news.notify_all()
        return reply

    async def take_file(self, msg: Msg) -> None:
        """Give a piece of a file."""
        asked = FilePieceRequest.model_validate_json(msg.data)
        content, end = self._files.get(asked.file_id), asked.offset + _PIECE_BYTES
        if content is None:
            error = FileNotFound(f"there is no file {asked.file_id}")
            await self._bus.respond(msg, failure("file", self._agent_id, error.body()))
            return
        piece = FilePiece(
            data=b64encode(content[asked.offset : end]).decode(), next=end if end < len(content) else None
        )
        await self._bus.respond(msg, piece)

    # --- what callers want -------------------------------------------------------------------------------------------

    def forget_files(self) -> None:
        """Lose all files, as when they were deleted after a run was accepted."""
        self._files.clear()

    async def accept(
        self,
        message: str,
        *,
        history: tuple[Turn, ...] = (),
        files: dict[str, bytes] | None = None,
        limits: RunLimits | None = None,
        **given: Any,
    ) -> str:
        """Put a run on record, tell that there is work, and return its id; `given` are fields of `RunInput`."""
        run_id = uuid4().hex
        refs = tuple(
            FileRef(file_id=name, name=name, type=guess_type(name)[0] or "application/octet-stream", size=len(content))
            for name, content in (files or {}).items()
        )
        self._files |= files or {}
        given = {"workspace_id": "default", "session_id": uuid4().hex} | given
        assignment = Assignment(
            run_id=run_id,
            epoch=0,
            next_seq=1,
            lease_s=self._lease_s,
            input=RunInput(message=message, files=refs, **given),
            history=history,
            limits=limits or RunLimits(),
        )
        self.runs[run_id] = Entry(assignment)
        await self._nudge()
        return run_id

    async def decide(self, run_id: str, decision: Decision) -> None:
        """Decide the confirmation that a run waits for."""
        entry = self.runs[run_id]
        asked = entry.events[-1].confirmation
        assert asked is not None  # noqa: S101 - who decides has seen it
        resume = Resumption(name=asked.resume, state=asked.state, decision=decision)
        entry.assignment = entry.assignment.model_copy(update={"resume": resume})
        entry.status, entry.claimable = RunStatus.RUNNING, True
        await self._nudge()

    async def _nudge(self) -> None:
        await self._bus.publish(subjects.run(self._agent_id), b"")

    async def settled(self, run_id: str) -> RunResult:
        """Wait until the run has ended, or waits for a human."""
        async with self._news:
            await self._news.wait_for(lambda: self.runs[run_id].settled)
        return self.runs[run_id].result()

    async def reported(self, run_id: str, count: int) -> RunResult:
        """Wait until so many events of the run are on record."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.runs[run_id].events) >= count)
        return self.runs[run_id].result()
