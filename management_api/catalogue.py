"""Routes beside the agents: packages on disk and the events of the fleet."""

from typing import Annotated

from fastapi import APIRouter, Query

from management_api.agents import TheFleet, checked_id, given
from opmas.wire.params import EventsParams, PackagesParams
from opmas.wire.views import EventsView, PackageList

router = APIRouter(prefix="/api/v1", tags=["catalogue"])


class EventsOf(EventsParams):
    """Events of all agents, or of one."""

    agent: str | None = None


@router.get("/packages")
async def list_packages(fleet: TheFleet, params: Annotated[PackagesParams, Query()]) -> PackageList:
    """Every package on disk, broken ones with their error."""
    return await fleet.query("packages", PackageList, params=given(params))


@router.get("/events")
async def list_events(fleet: TheFleet, params: Annotated[EventsOf, Query()]) -> EventsView:
    """Status changes and their causes: those after `after`, else the latest."""
    agent_id = checked_id(params.agent) if params.agent is not None else None
    return await fleet.query("events", EventsView, agent_id, given(params))
