"""An instance on the wire that does nothing unasked: a test claims, reports and falls silent as it likes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opmas.bus import Bus, Msg
from opmas.wire import subjects
from opmas.wire.messages import Command
from opmas.wire.runs import (
    Assignment,
    Claim,
    Claimed,
    ConfirmationRequest,
    EventKind,
    FilePieceRequest,
    Frame,
    FrameReply,
    RunEnd,
    RunEvent,
    RunStatus,
)

STARTED = RunEvent(kind=EventKind.STARTED)


def chunk(content: str) -> RunEvent:
    return RunEvent(kind=EventKind.CHUNK, content=content)


def end(content: str = "", status: RunStatus = RunStatus.COMPLETED) -> RunEvent:
    return RunEvent(kind=EventKind.END, end=RunEnd(status=status, content=content))


def ask(name: str = "sure") -> RunEvent:
    asked = ConfirmationRequest(id=name, message="pay?", tool_name="pay", arguments={"amount": 5}, resume="paid")
    return RunEvent(kind=EventKind.CONFIRMATION, confirmation=asked)


class Worker:
    """An instance with one process."""

    def __init__(self, bus: Bus, agent_id: str, start_count: int = 1) -> None:
        self.bus = bus
        self.agent_id = agent_id
        self.id = f"{agent_id}-0"
        self.start_count = start_count
        self.nudged = asyncio.Event()
        self.told_to_stop: asyncio.Queue[str] = asyncio.Queue()
        self._next: dict[tuple[str, int], int] = {}

    async def listen(self, tasks: asyncio.TaskGroup) -> None:
        await self.bus.subscribe(subjects.run(self.agent_id), self._nudge, tasks=tasks, queue="workers")
        await self.bus.subscribe(subjects.command(self.agent_id), self._command, tasks=tasks)
        await self.bus.flush()

    async def _nudge(self, _: Msg) -> None:
        self.nudged.set()

    async def _command(self, msg: Msg) -> None:
        command = Command.model_validate_json(msg.data)
        assert command.command == "cancel"
        self.told_to_stop.put_nowait(str(command.params["run_id"]))

    async def claim(self, room: int = 1) -> tuple[Assignment, ...]:
        claim = Claim(instance_id=self.id, start_count=self.start_count, room=room)
        answer = await self.bus.request(subjects.claim(self.agent_id), claim, 10)
        given = Claimed.model_validate_json(answer.data).assignments
        self._next |= {(one.run_id, one.epoch): one.next_seq for one in given}
        return given

    async def take(self) -> Assignment:
        """Claim until there is a run."""
        async with asyncio.timeout(15):
            while True:
                for given in await self.claim():
                    return given
                await asyncio.sleep(0.05)

    async def report(self, given: Assignment, *events: RunEvent, patience_s: float = 10) -> FrameReply:
        """Send the next events in one frame."""
        first = self._next[given.run_id, given.epoch]
        frame = Frame(instance_id=self.id, epoch=given.epoch, first_seq=first, events=events)
        answer = await self.bus.request(subjects.frame(self.agent_id, given.run_id), frame, patience_s)
        reply = FrameReply.model_validate_json(answer.data)
        self._next[given.run_id, given.epoch] = reply.seq + 1
        return reply

    async def finish(self, content: str = "done") -> Assignment:
        """Take a run and complete it."""
        given = await self.take()
        await self.report(given, STARTED)
        await self.report(given, end(content))
        return given

    async def file(self, given: Assignment, file_id: str) -> Msg:
        asked = FilePieceRequest(instance_id=self.id, run_id=given.run_id, file_id=file_id)
        return await self.bus.request(subjects.file(self.agent_id), asked, 10)


@asynccontextmanager
async def working(nats_url: str, agent_id: str, start_count: int = 1) -> AsyncIterator[Worker]:
    """Connect a worker."""
    async with await Bus.connect(nats_url, name="worker") as bus, asyncio.TaskGroup() as tasks:
        worker = Worker(bus, agent_id, start_count)
        await worker.listen(tasks)
        yield worker
