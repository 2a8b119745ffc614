"""Routes beside the agents: packages on disk and the events of the fleet."""

from typing import Annotated

from fastapi import APIRouter, Query

from management_api.agents import TheFleet, checked_id, given
from management_api.auth import TheCaller, requires
from management_api.auth.tenancy import require_agent, visibility
from opmas.wire.params import EventsParams, PackagesParams
from opmas.wire.views import EventsView, PackageList

router = APIRouter(prefix="/api/v1", tags=["catalogue"])


class EventsOf(EventsParams):
    """Events of all agents, or of one."""

    agent: str | None = None


@router.get("/packages", dependencies=[requires("packages:read")])
async def list_packages(fleet: TheFleet, params: Annotated[PackagesParams, Query()]) -> PackageList:
    """Every package on disk, broken ones with their error."""
    return await fleet.query("packages", PackageList, params=given(params))


@router.get("/events", dependencies=[requires("events:read")])
async def list_events(fleet: TheFleet, caller: TheCaller, params: Annotated[EventsOf, Query()]) -> EventsView:
    """Status changes and their causes: those after `after`, else the latest."""
    if params.agent is not None:
        agent_id = checked_id(params.agent)
        await require_agent(fleet, caller, agent_id)
        return await fleet.query("events", EventsView, agent_id, given(params))
    found = await fleet.query("events", EventsView, None, given(params))
    visible = await visibility(fleet, caller)
    return EventsView(events=tuple(event for event in found.events if visible(event.agent_id)), next=found.next)
