"""A bus inside one process, for tests of agents: subjects, wildcards, queue groups and requests, without a server.

The tests of the bus run against this one and the real one alike.
"""

import asyncio
import itertools
from collections.abc import Mapping

from opmas.bus import correlation
from opmas.bus.delivery import Delivery, Handler, Msg
from opmas.bus.errors import NoResponders
from opmas.bus.payload import Payload, encoded, error_headers
from opmas.wire.errors import DeadlineExceeded

_MAX_PAYLOAD = 1024 * 1024  # nats-server's default


def matches(pattern: str, subject: str) -> bool:
    """Say whether a subscription to `pattern` receives `subject`."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


class MemorySubscription:
    """Interest in a subject of a `MemoryBus`."""

    def __init__(
        self, bus: "MemoryBus", subject: str, queue: str, delivery: Delivery, tasks: asyncio.TaskGroup
    ) -> None:
        self.subject = subject
        self.queue = queue
        self._bus = bus
        self._delivery = delivery
        self._tasks = tasks
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """How many of its messages are being handled now."""
        return self._delivery.in_flight

    def take(self, msg: Msg) -> None:
        """Queue `msg`; the publisher is not made to wait for a handler, it may be that handler."""
        task = self._tasks.create_task(self._delivery.deliver(msg), name=f"{self.subject} delivery")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    @property
    def busy(self) -> bool:
        """Whether messages are waiting or being handled."""
        return bool(self._waiting) or self.in_flight > 0

    async def settle(self) -> None:
        """Wait until all that was taken is handled."""
        while self._waiting:
            await asyncio.wait(self._waiting)
        await self._delivery.settle()

    async def drain(self) -> None:
        """Take no more, and return when all that was taken is handled; the caller sets the deadline."""
        self._bus.forget(self)
        await self.settle()

    def abandon(self) -> int:
        """Cancel the handling of what is in flight; say how many messages that were."""
        for task in self._waiting:
            task.cancel()
        return self._delivery.abandon()


class MemoryBus:
    """A bus that remembers in `sent` all that was published, answers included."""

    is_connected = True

    def __init__(self) -> None:
        self.sent: list[Msg] = []
        self.news = asyncio.Condition()
        self._subscriptions: list[MemorySubscription] = []
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._count = itertools.count()

    async def publish(self, subject: str, payload: Payload, headers: Mapping[str, str] | None = None) -> None:
        """Send a message to whoever listens."""
        await self._send(subject, payload, "", headers)

    async def _send(self, subject: str, payload: Payload, reply: str, headers: Mapping[str, str] | None) -> bool:
        msg = Msg(subject, encoded(payload, _MAX_PAYLOAD), reply, correlation.outgoing(headers) or {})
        answer = self._answers.get(subject)
        if answer is not None and not answer.done():
            answer.set_result(msg)
        receivers = self._receivers(subject)
        for subscription in receivers:
            subscription.take(msg)
        async with self.news:
            self.sent.append(msg)
            self.news.notify_all()
        return bool(receivers)

    def _receivers(self, subject: str) -> list[MemorySubscription]:
        interested = [each for each in self._subscriptions if matches(each.subject, subject)]
        chosen = [each for each in interested if not each.queue]
        for queue in {each.queue for each in interested if each.queue}:
            members = [each for each in interested if each.queue == queue]
            chosen.append(members[next(self._count) % len(members)])
        return chosen

    async def request(
        self, subject: str, payload: Payload, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Send a message and wait for the first answer. Raises `NoResponders`, `DeadlineExceeded`."""
        inbox = f"_INBOX.{next(self._count)}"
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._answers[inbox] = answer
        try:
            async with asyncio.timeout(timeout_s):
                if not await self._send(subject, payload, inbox, headers):
                    raise NoResponders(f"nobody listens on {subject}")
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(f"no answer on {subject} within {timeout_s:g} s") from None
        finally:
            del self._answers[inbox]

    async def respond(self, msg: Msg, payload: Payload) -> bool:
        """Answer `msg` to its inbox; False when it has none."""
        if not msg.reply:
            return False
        await self._send(msg.reply, payload, "", error_headers(payload))
        return True

    async def subscribe(
        self, subject: str, handler: Handler, *, tasks: asyncio.TaskGroup, queue: str = "", concurrency: int = 64
    ) -> MemorySubscription:
        """Hand each message on `subject` to `handler`, in a task of `tasks`, at most `concurrency` at a time."""
        delivery = Delivery(subject, handler, tasks, concurrency)
        subscription = MemorySubscription(self, subject, queue, delivery, tasks)
        self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: MemorySubscription) -> None:
        """Deliver nothing more to `subscription`."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def sent_on(self, subject: str) -> list[Msg]:
        """Return what was sent so far on `subject`, which may hold wildcards."""
        return [msg for msg in self.sent if matches(subject, msg.subject)]

    async def settle(self) -> None:
        """Wait until nobody handles anything, what handlers sent meanwhile included; the caller sets the deadline."""
        while busy := [each for each in self._subscriptions if each.busy]:
            await busy[0].settle()

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Return at once: nothing here waits to be sent."""
