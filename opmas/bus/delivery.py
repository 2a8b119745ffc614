"""How a message reaches its handler: in a task of the owner's group, a bounded number at a time.

A NATS client calls the callbacks of a subscription one after another, so that one slow handler stops all that follow;
and an exception that left a handler would end the owner's whole group. Both end here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from opmas.bus.correlation import correlated, correlation_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Msg:
    """What came in: plain data. Answer it with `Bus.respond`, which never sends its headers back."""

    subject: str
    data: bytes
    reply: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Msg], Awaitable[None]]


class Delivery:
    """Hands messages to one handler; full, it makes the next message wait, which is the back-pressure."""

    def __init__(self, name: str, handler: Handler, tasks: asyncio.TaskGroup, concurrency: int) -> None:
        self._name = name
        self._handler = handler
        self._tasks = tasks
        self._room = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """How many messages are being handled now."""
        return len(self._running)

    async def deliver(self, msg: Msg) -> None:
        """Start handling `msg` as soon as there is room; dropped when the owner's group has already ended."""
        await self._room.acquire()
        handling = self._handle(msg)
        try:
            task = self._tasks.create_task(handling, name=f"{self._name} handler")
        except RuntimeError:
            handling.close()
            self._room.release()
            return
        self._running.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()

    async def _handle(self, msg: Msg) -> None:
        with correlated(correlation_of(msg.headers)):
            try:
                await self._handler(msg)
            except Exception:  # the edge of a NATS message: a handler's fault must not end its owner
                logger.exception("cannot handle a message on %s", msg.subject)

    async def settle(self) -> None:
        """Wait until nothing is being handled; the caller sets the deadline."""
        while self._running:
            await asyncio.wait(self._running)

    def abandon(self) -> int:
        """Cancel what is still being handled; say how many that were."""
        for task in self._running:
            task.cancel()
        return len(self._running)
