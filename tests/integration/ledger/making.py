"""Runs to accept, and an instance that claims and reports them by the book."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from management_api.store import Ledger
from management_api.store.rows import NewRun, Recorded
from opmas.wire.runs import (
    Assignment,
    ConfirmationRequest,
    EventKind,
    Frame,
    RunEnd,
    RunEvent,
    RunSpec,
    RunStatus,
    SessionRuns,
    Usage,
)

LEASE_S = 30.0
STARTED = RunEvent(kind=EventKind.STARTED)


def new(**fields: Any) -> NewRun:
    """A run of agent `echo` with a key of its own; `spec` may be given as a dict."""
    spec = fields.pop("spec", {})
    values: dict[str, Any] = {
        "run_id": uuid4().hex, "workspace": "acme", "user_id": "ann", "agent_id": "echo", "session_id": None,
        "message": "hello", "params": {}, "files": (), "metadata": {}, "correlation_id": "", "request_hash": "hash",
        "idempotency_key": None, "actor": "user:ann",
        "spec": spec if isinstance(spec, RunSpec) else RunSpec.model_validate(spec),
    }  # fmt: skip
    return NewRun(**(values | fields))


def chunk(text: str) -> RunEvent:
    return RunEvent(kind=EventKind.CHUNK, content=text)


def end(content: str = "done", status: RunStatus = RunStatus.COMPLETED, **fields: Any) -> RunEvent:
    usage = Usage(input_tokens=2, output_tokens=3, total_tokens=5)
    return RunEvent(kind=EventKind.END, end=RunEnd(status=status, content=content, usage=usage, **fields))


def asking(number: int = 1, **fields: Any) -> RunEvent:
    request = ConfirmationRequest(
        id=f"c{number}",
        message="Really?",
        tool_name="pay",
        arguments={"sum": 9},
        state={"step": 2},
        resume="paid",
        **fields,
    )
    return RunEvent(kind=EventKind.CONFIRMATION, confirmation=request)


@dataclass
class Instance:
    """One process of an agent; keeps the number of the next event of each run it holds."""

    ledger: Ledger
    id: str = "echo-0"
    agent: str = "echo"
    start_count: int = 1
    lease_s: float = LEASE_S
    following: dict[str, int] = field(default_factory=dict)

    async def claim(self, room: int = 1) -> tuple[Assignment, ...]:
        given = (await self.ledger.claim(self.agent, self.id, self.start_count, room, self.lease_s)).assignments
        self.following.update({one.run_id: one.next_seq for one in given})
        return given

    async def take(self) -> Assignment:
        """Claim the one run there is."""
        (given,) = await self.claim()
        return given

    async def start(self) -> Assignment:
        """Claim the one run there is, and say that its handler is called."""
        given = await self.take()
        assert not (await self.send(given, STARTED)).reply.fenced
        return given

    async def send(self, given: Assignment, *events: RunEvent, at: int | None = None) -> Recorded:
        first = self.following[given.run_id] if at is None else at
        frame = Frame(instance_id=self.id, epoch=given.epoch, first_seq=first, events=events)
        answer = await self.ledger.record(self.agent, given.run_id, frame, self.lease_s)
        self.following[given.run_id] = answer.reply.seq + 1
        return answer


async def kinds(ledger: Ledger, run_id: str) -> list[str]:
    """List the kinds of a run's events, having checked that their numbers have no gap."""
    events = await ledger.events(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [RunEvent.model_validate_json(event.json).kind.value for event in events]


ENQUEUE, REJECT, INTERRUPT = ({"session_runs": policy} for policy in SessionRuns)
