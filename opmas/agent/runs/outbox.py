"""The events of one run on their way to the record: kept in order and sent again until they are acknowledged.

One frame is on its way at a time. What comes meanwhile goes with the next, so that a flood of small events makes few
frames; an event after a pause goes at once. What an event means is for others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from pydantic import ValidationError

from opmas.bus import AnyBus, BusUnavailable, NoResponders, PayloadTooLarge
from opmas.wire import subjects
from opmas.wire.errors import Conflict, DeadlineExceeded, TooLarge
from opmas.wire.runs import Assignment, Frame, FrameReply, RunEvent

logger = logging.getLogger(__name__)

# How long events may wait for others to go with them (seconds): a stream of words still looks like one.
_COALESCE_S = 0.02
# An answer takes a commit; one that takes this long was lost, with the connection perhaps. Each time in a row we wait
# twice as long, in case the other side is merely overloaded; but ask ten times in a lease: of several APIs, the one
# that was asked may be frozen.
_ANSWER_S = 2.0
_ASKED_IN_A_LEASE = 10
_MAX_PAUSE_S = 2.0
# Below the megabyte that nats-server takes by default, with room for headers.
_FRAME_BYTES = 700_000
EVENT_BYTES = 600_000
# So much may wait unacknowledged before whoever sends has to wait.
_ROOM_BYTES = 1_000_000


def encoded(event: RunEvent) -> bytes:
    """Return the event's JSON. Raises `TooLarge` for what fits into no frame."""
    data = event.encode()
    if len(data) > EVENT_BYTES:
        raise TooLarge(
            f"cannot report {len(data)} bytes in one event of a run: the limit is {EVENT_BYTES}",
            "Send text in chunks; put what is large elsewhere and report where it is.",
        )
    return data


class Outbox:
    """What is to be reported of one run, from `assignment.next_seq` on.

    `on_reply` is given each answer; `fenced` says that the run is no longer ours, and nothing more is sent;
    `finished`, that its last event is here.
    """

    def __init__(
        self,
        bus: AnyBus,
        instance: tuple[str, str],
        assignment: Assignment,
        tasks: asyncio.TaskGroup,
        on_reply: Callable[[FrameReply], None],
    ) -> None:
        agent_id, instance_id = instance
        self._bus = bus
        self._tasks = tasks
        self._on_reply = on_reply
        self._loop = asyncio.get_running_loop()
        self._run_id = assignment.run_id
        self._subject = subjects.frame(agent_id, assignment.run_id)
        head = Frame(instance_id=instance_id, epoch=assignment.epoch, first_seq=0).model_dump_json()
        self._head = head.partition('"first_seq"')[0].encode()
        self._pending: deque[bytes] = deque()
        self._first = assignment.next_seq
        self._bytes = 0
        self._frame_bytes = _FRAME_BYTES
        self._lock = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._renew_s = assignment.lease_s / 3
        self._patience_s = max(_ANSWER_S, assignment.lease_s / _ASKED_IN_A_LEASE)
        self._renewal = self._loop.call_later(self._renew_s, self._renew)
        self.fenced = False
        self.finished = False
        self.closed = False

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing should be added."""
        return self._bytes > _ROOM_BYTES

    async def room(self) -> None:
        """Wait until there is room. Raises `Conflict` when the run is over."""
        if self.is_full:
            self._room.clear()
            await self._room.wait()
        if self.finished or self.closed:
            raise Conflict("cannot report more of this run: it has ended", "Stop what still works for it.")

    def add(self, event: bytes) -> None:
        """Keep an event for the next frame; nothing follows the last one."""
        if not self.finished and not self.closed:
            self._pending.append(event)
            self._bytes += len(event)

    def post(self, event: bytes) -> None:
        """Keep an event and send it soon: at once, or in the company of those that follow right away."""
        self.add(event)
        self._schedule()

    def finish(self, events: list[bytes]) -> None:
        """Keep the last events of the run."""
        for event in events:
            self.add(event)
        self.finished = True

    async def flush(self) -> None:
        """Return when all events are on record, or the run is no longer ours; the caller may give up earlier."""
        async with self._lock:
            while self._pending and not self.closed:
                await self._deliver()

    def close(self) -> None:
        """Send nothing more."""
        self.closed = True
        self._room.set()
        self._renewal.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # --- when to send ------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        # With a frame on its way, whoever sent it looks for more.
        if self._timer is None and not self.closed and not self._lock.locked():
            self._timer = self._loop.call_at(self._sent_at + _COALESCE_S, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._pending and not self._lock.locked():
            self._send()

    def _renew(self) -> None:
        self._renewal = self._loop.call_later(self._renew_s, self._renew)
        if not self._lock.locked() and self._loop.time() >= self._sent_at + self._renew_s * 0.9:
            self._send()

    def _send(self) -> None:
        self._tasks.create_task(self._send_one(), name=f"frame of {self._run_id}")

    async def _send_one(self) -> None:
        async with self._lock:
            if self.closed:
                return
            self._sent_at = self._loop.time()
            await self._deliver()
        if self._pending:
            self._schedule()

    # --- one frame ---------------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Send one frame, perhaps empty, until it is answered: for as long as it takes."""
        pause, patience = 0.05, _ANSWER_S
        while not self.closed:
            reply = await self._ask(patience)
            if reply is not None and self._take(reply):
                return
            await asyncio.sleep(pause)
            pause, patience = min(_MAX_PAUSE_S, pause * 2), min(self._patience_s, patience * 2)

    def _frame(self) -> bytes:
        """Put as many events together as a message holds. By hand: each is encoded once, however often it is sent."""
        events: list[bytes] = []
        size = 0
        for event in self._pending:
            size += len(event) + 1
            if events and size > self._frame_bytes:
                break
            events.append(event)
        return b'%b"first_seq":%d,"events":[%b]}' % (self._head, self._first, b",".join(events))

    async def _ask(self, patience_s: float) -> FrameReply | None:
        try:
            answer = await self._bus.request(self._subject, self._frame(), patience_s)
            if _is_error(answer.headers):
                logger.warning("cannot report the run %s yet: %s", self._run_id, answer.data[:500])
                return None
            return FrameReply.model_validate_json(answer.data)
        except (DeadlineExceeded, NoResponders, BusUnavailable) as error:
            logger.debug("cannot report the run %s yet: %s", self._run_id, error)
        except PayloadTooLarge as error:
            self._shrink(error)
        except ValidationError as error:
            logger.warning("cannot understand the answer to a frame of the run %s: %s", self._run_id, error)
        return None

    def _shrink(self, error: PayloadTooLarge) -> None:
        """Send less at once: this NATS server takes smaller messages than others."""
        if self._frame_bytes < len(self._pending[0]):
            logger.error("gave up the run %s: %s", self._run_id, error)
            self._take(FrameReply(fenced=True, reason=error.message))
        self._frame_bytes //= 2

    def _take(self, reply: FrameReply) -> bool:
        """Act on an answer; False if the record has not come further although there was something to record."""
        if reply.fenced or reply.seq < self._first - 1:
            # The record cannot go back behind what it has acknowledged, unless it is not the one we reported to.
            logger.warning("the run %s is no longer ours: %s", self._run_id, reply.reason or f"seq {reply.seq}")
            self.fenced = True
            self.close()
            self._on_reply(reply.model_copy(update={"fenced": True}))
            return True
        known = min(reply.seq - self._first + 1, len(self._pending))
        for _ in range(known):
            self._bytes -= len(self._pending.popleft())
        advanced = known > 0 or not self._pending
        self._first = reply.seq + 1
        if not self.is_full:
            self._room.set()
        self._on_reply(reply)
        return advanced


def _is_error(headers: object) -> bool:
    return isinstance(headers, dict) and any("service-error" in str(name).lower() for name in headers)
