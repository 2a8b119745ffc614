"""What streams tell: an agent's log lines, and events; each can be resumed exactly where it was cut.

The id of a frame says where its reader stands. It comes back as `Last-Event-ID`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from pydantic import JsonValue

from management_api.fleet import Fleet
from management_api.watches import Look
from opmas.wire.errors import InvalidRequest
from opmas.wire.params import EventsParams
from opmas.wire.views import EventsView, EventView, LogsView

_ALL = 1000  # the most events that one query answers

# A cursor has some 130 characters for each instance. With more than a few, only the last line of an answer gets an id:
# a stream that is cut between two of its lines tells some of them again.
_LONG_CURSOR = 1000

Guard = Callable[[], Awaitable[object]]
Visible = Callable[[], Awaitable[Callable[[str], bool]]]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A place between two lines: a cursor of the manager's, and how many lines of each instance were told since.

    Counted for each instance, because a line that comes late may go between those of others.
    """

    cursor: str
    told: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "~".join([self.cursor, *(f"{instance}:{count}" for instance, count in self.told.items())])

    @classmethod
    def parse(cls, text: str) -> "LogPosition":
        """Read what `str` wrote. Raises `InvalidRequest`."""
        cursor, *told = text.split("~")
        counts = {}
        for part in told:
            instance, _, count = part.rpartition(":")
            if not (instance and count.isascii() and count.isdecimal() and len(count) < 10):
                raise InvalidRequest(f"cannot continue after {text[:40]!r}", "send the id of an earlier event, or none")
            counts[instance] = int(count)
        return cls(cursor, counts)

    def read(self, view: LogsView) -> tuple[list[tuple[str, str | None]], "LogPosition"]:
        """Return the lines of an answer to `cursor` that were not told yet, each with its id, and where that ends."""
        skip, told = Counter(self.told), Counter(self.told)
        fresh: list[tuple[str, str | None]] = []
        for line in view.lines:
            if skip[line.instance] > 0:
                skip[line.instance] -= 1
            else:
                told[line.instance] += 1
                exact = len(self.cursor) <= _LONG_CURSOR
                fresh.append((line.model_dump_json(), str(LogPosition(self.cursor, dict(told))) if exact else None))
        end = LogPosition(view.next, +skip)
        if fresh:
            fresh[-1] = (fresh[-1][0], str(end))
        return fresh, end


class LogSource:
    """The lines of one agent: the last ones, or those after `position`; then whatever is written."""

    def __init__(
        self, fleet: Fleet, agent_id: str, params: dict[str, JsonValue], position: LogPosition | None, guard: Guard
    ) -> None:
        self._fleet, self._agent_id, self._params = fleet, agent_id, params
        self._position, self._guard = position, guard
        self.topic = f"logs of {agent_id}"
        self.look: Look = LogLook(fleet, agent_id)

    async def more(self) -> list[bytes]:
        """Return one frame a line."""
        await self._guard()
        position = self._position
        after: dict[str, JsonValue] = {"after": position.cursor} if position else {}
        view = await self._fleet.query("logs", LogsView, self._agent_id, self._params | after)
        if position is not None:
            lines, self._position = position.read(view)
            return [format_sse_event(data_str=data, id=identity) for data, identity in lines]
        self._position = LogPosition(view.next)
        # There is no cursor between the lines of a tail; they count as told when all are.
        frames = [format_sse_event(data_str=line.model_dump_json()) for line in view.lines]
        return [*frames, format_sse_event(id=view.next)]


class LogLook:
    """Whether an agent has written anything since the last look."""

    def __init__(self, fleet: Fleet, agent_id: str) -> None:
        self._fleet, self._agent_id = fleet, agent_id
        self._cursor: str | None = None

    async def __call__(self) -> bool:
        """Look."""
        start: dict[str, JsonValue] = {"tail": 0} if self._cursor is None else {"after": self._cursor}
        view = await self._fleet.query("logs", LogsView, self._agent_id, start)
        self._cursor = view.next
        return bool(view.lines)


class EventLook:
    """What happened last, to any agent: those who read events and have kept up need not ask the manager themselves."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._since: int | None = None
        self._last = EventsView(events=(), next=0)

    async def __call__(self) -> bool:
        """Look."""
        if self._since is None:
            self._last = await self._fleet.query("events", EventsView, params={"limit": 1})
            self._since = self._last.next
            return False
        view = await self._fleet.query("events", EventsView, params={"after": self._last.next, "limit": _ALL})
        if view.events:
            self._since, self._last = self._last.next, view
        return bool(view.events)

    @property
    def head(self) -> int:
        """The id of the last event known here; 0 before the first look."""
        return self._last.next

    def after(self, position: int) -> EventsView | None:
        """Return what came after `position`, if the last look covers that."""
        if self._since is None or not self._since <= position <= self._last.next:
            return None
        return EventsView(events=tuple(e for e in self._last.events if e.id > position), next=self._last.next)


class EventSource:
    """The events of all agents or of one: the last ones, or those after an id; then whatever happens."""

    topic = "events"

    def __init__(
        self, fleet: Fleet, look: EventLook, agent_id: str | None, params: EventsParams, visible: Visible
    ) -> None:
        self._fleet, self._agent_id, self._params, self._visible = fleet, agent_id, params, visible
        self._position = params.after
        self.look = look

    async def more(self) -> list[bytes]:
        """Return one frame an event."""
        events = await self._next()
        visible = await self._visible() if events else None
        return [
            format_sse_event(data_str=event.model_dump_json(), id=str(event.id))
            for event in events
            if visible is not None and visible(event.agent_id)
        ]

    async def _next(self) -> list[EventView]:
        head = self.look.head
        shared = self.look.after(self._position) if self._position is not None else None
        view = shared or await self._ask()
        # One agent's events end before the last of all; nothing of it lies between.
        self._position = view.next if view.events else max(view.next, head)
        return [event for event in view.events if self._agent_id in {None, event.agent_id}]

    async def _ask(self) -> EventsView:
        limit = self._params.limit if self._position is None else _ALL
        after: dict[str, JsonValue] = {} if self._position is None else {"after": self._position}
        return await self._fleet.query("events", EventsView, self._agent_id, {"limit": limit} | after)
