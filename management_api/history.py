"""Routes about what happened: events, as a list or a stream, of all agents or of one; and the audit of commands."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response as HttpResponse

from management_api import examples
from management_api.agents import LastEventId, TheAgent, TheFleet, TheStreams, checked_id, given
from management_api.auth import TheCaller, requires
from management_api.follow import EventLook, EventSource
from management_api.openapi import answers, streamed
from management_api.streams import EVENT_STREAM, position
from management_api.tenancy import WIDE, require_agent, shown, visibility
from opmas.wire.params import AuditParams, EventsParams
from opmas.wire.views import AgentView, AuditView, EventsView, EventView

router = APIRouter(prefix="/api/v1", tags=["history"])

_ANSWERS = streamed(answers(404, example=examples.EVENTS), EventView)


class EventsFrom(EventsParams):
    """Which events; with `follow`, also those to come, as server-sent events."""

    follow: bool = False


class EventsOf(EventsFrom):
    """Events of all agents, or of one."""

    agent: str | None = None


class AuditOf(AuditParams):
    """Commands about all agents, or about one."""

    agent: str | None = None


def streaming(request: Request) -> bool:
    """Say whether the caller asked for a stream by `Accept`."""
    return EVENT_STREAM in request.headers.get("accept", "")


async def look_of(request: Request) -> EventLook:
    """Find the look that all who follow events share."""
    look: EventLook = request.app.state.event_look
    return look


async def chosen(fleet: TheFleet, caller: TheCaller, agent: str | None) -> str | None:
    """Check the agent that was asked for, if any."""
    if agent is not None:
        await require_agent(fleet, caller, checked_id(agent))
    return agent


class Teller:
    """Answers with events, in the way that the caller asked for."""

    def __init__(
        self,
        request: Request,
        fleet: TheFleet,
        streams: TheStreams,
        caller: TheCaller,
        look: Annotated[EventLook, Depends(look_of)],
        last_event_id: LastEventId = None,
    ) -> None:
        self._fleet, self._streams, self._caller, self._look = fleet, streams, caller, look
        self._streaming = streaming(request)
        self._last = last_event_id

    async def tell(self, agent_id: str | None, params: EventsFrom) -> EventsView | HttpResponse:
        """Answer a list, or start a stream."""
        if params.follow or self._streaming:
            start = EventsParams(after=self._after(params), limit=params.limit)
            return await self._streams.start(EventSource(self._fleet, self._look, agent_id, start, self._visible))
        asked = given(params) | {"limit": params.limit if self._caller.everywhere else WIDE}
        found = await self._fleet.query("events", EventsView, agent_id, asked)
        events, following = shown(found.events, found.next, await self._visible(), params.after, params.limit)
        return EventsView(events=events, next=following)

    async def _visible(self) -> Callable[[str], bool]:
        return await visibility(self._fleet, self._caller)

    def _after(self, params: EventsFrom) -> int | None:
        last = position(self._last)
        return params.after if last is None else last


TheTeller = Annotated[Teller, Depends()]


@router.get("/events", response_model=EventsView, dependencies=[requires("events:read")], responses=_ANSWERS)
async def list_events(
    fleet: TheFleet, caller: TheCaller, teller: TheTeller, params: Annotated[EventsOf, Query()]
) -> EventsView | HttpResponse:
    """Status changes and their causes: those after `after`, else the latest.

    With `Accept: text/event-stream`, or `follow=true`, a stream that goes on with what happens.
    """
    return await teller.tell(await chosen(fleet, caller, params.agent), params)


@router.get(
    "/agents/{agent_id}/events",
    response_model=EventsView,
    dependencies=[requires("events:read")],
    responses=_ANSWERS,
)
async def list_agent_events(
    fleet: TheFleet, teller: TheTeller, agent_id: TheAgent, params: Annotated[EventsFrom, Query()]
) -> EventsView | HttpResponse:
    """One agent's events, like `/api/v1/events`; those of an agent that is no more are told there alone."""
    await fleet.query("get", AgentView, agent_id)
    return await teller.tell(agent_id, params)


@router.get("/audit", dependencies=[requires("audit:read")], responses=answers(404, example=examples.AUDIT))
async def list_audit(fleet: TheFleet, caller: TheCaller, params: Annotated[AuditOf, Query()]) -> AuditView:
    """Who commanded what, and how it was answered: the rows after `after`, else the latest."""
    asked = given(params) | {"limit": params.limit if caller.everywhere else WIDE}
    found = await fleet.query("audit", AuditView, await chosen(fleet, caller, params.agent), asked)
    rows, following = shown(found.audit, found.next, await visibility(fleet, caller), params.after, params.limit)
    return AuditView(audit=rows, next=following)
