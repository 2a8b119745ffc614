"""An instance on the wire: claims runs, and reports of each what a test's script yields.

What real instances do is shown in `tests/integration/agent` and `tests/e2e`; this one does what a test needs, when it
needs it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from opmas.bus import Bus, BusUnavailable, Msg, NoResponders
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded
from opmas.wire.messages import Message
from opmas.wire.runs import (
    Assignment,
    Claim,
    Claimed,
    ConfirmationRequest,
    EventKind,
    Frame,
    FrameReply,
    RunEnd,
    RunEvent,
    RunStatus,
)

Script = Callable[[Assignment], AsyncGenerator[RunEvent, None]]

STARTED = RunEvent(kind=EventKind.STARTED)


def chunk(content: str) -> RunEvent:
    return RunEvent(kind=EventKind.CHUNK, content=content)


def end(content: str = "", status: RunStatus = RunStatus.COMPLETED, **fields: object) -> RunEvent:
    return RunEvent(kind=EventKind.END, end=RunEnd.model_validate({"status": status, "content": content, **fields}))


def confirm(message: str, **fields: object) -> RunEvent:
    asked = {"id": "c1", "message": message, "tool_name": "pay", "resume": "paid", **fields}
    return RunEvent(kind=EventKind.CONFIRMATION, confirmation=ConfirmationRequest.model_validate(asked))


class Instance:
    """One instance of an agent; each event of a run goes in a frame of its own. A run asked to stop is cancelled."""

    def __init__(self, bus: Bus, agent_id: str, script: Script) -> None:
        self._bus, self._agent_id, self._script = bus, agent_id, script
        self._nudged = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.seen: list[Assignment] = []

    def begin(self, tasks: asyncio.TaskGroup, chore: Coroutine[None, None, None], name: str) -> None:
        self._running.add(task := tasks.create_task(chore, name=name))
        task.add_done_callback(self._running.discard)

    def stop(self) -> None:
        for task in self._running:
            task.cancel()

    async def nudged(self, _: Msg) -> None:
        self._nudged.set()

    async def work(self, tasks: asyncio.TaskGroup) -> None:
        """Claim runs for ever."""
        while True:
            self._nudged.clear()
            claim = Claim(instance_id=f"{self._agent_id}-0", start_count=1, room=8)
            claimed = Claimed.model_validate_json(await self._ask(subjects.claim(self._agent_id), claim))
            for assignment in claimed.assignments:
                self.seen.append(assignment)
                self.begin(tasks, self._handle(assignment), f"run {assignment.run_id}")
            if not claimed.assignments:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await self._nudged.wait()

    async def _handle(self, given: Assignment) -> None:
        number = given.next_seq
        async with contextlib.aclosing(self._script(given)) as events:
            reply = await self._report(given, number, STARTED)
            async for event in events:
                if reply.fenced:
                    return
                number += 1
                told = end(status=RunStatus.CANCELLED, reason="cancelled") if reply.cancel else event
                reply = await self._report(given, number, told)
                if told is not event:
                    return

    async def _report(self, given: Assignment, number: int, event: RunEvent) -> FrameReply:
        frame = Frame(instance_id=f"{self._agent_id}-0", epoch=given.epoch, first_seq=number, events=(event,))
        return FrameReply.model_validate_json(await self._ask(subjects.frame(self._agent_id, given.run_id), frame))

    async def _ask(self, subject: str, message: Message) -> bytes:
        while True:
            try:
                return (await self._bus.request(subject, message, 5)).data
            except (NoResponders, DeadlineExceeded, BusUnavailable):
                await asyncio.sleep(0.05)  # the API is away


@asynccontextmanager
async def working(nats_url: str, agent_id: str, script: Script) -> AsyncIterator[Instance]:
    """Work as an instance of the agent until the block ends."""
    async with await Bus.connect(nats_url, name=f"{agent_id}-0") as bus, asyncio.TaskGroup() as tasks:
        one = Instance(bus, agent_id, script)
        await bus.subscribe(subjects.run(agent_id), one.nudged, tasks=tasks)
        await bus.flush()
        one.begin(tasks, one.work(tasks), "claim")
        try:
            yield one
        finally:
            one.stop()
