"""Routes that tell about agents: the list, one agent, its status, why it is so, its metrics and logs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response as HttpResponse
from pydantic import JsonValue

from management_api import examples
from management_api.auth import TheCaller, requires
from management_api.fleet import Fleet
from management_api.follow import LogPosition, LogSource
from management_api.listing import Selection
from management_api.openapi import answers, streamed
from management_api.streams import Streams
from management_api.tenancy import require_agent, visible_agents
from opmas.wire.errors import AgentNotFound
from opmas.wire.ids import AGENT_ID_PATTERN, is_agent_id
from opmas.wire.params import LogsParams, Params
from opmas.wire.views import AgentList, AgentView, ConfigView, LogLine, LogsView, MetricsView, StatusView, WhyView

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])

_READ = [requires("agents:read")]


async def fleet_of(request: Request) -> Fleet:
    """Find the fleet that the application was started with."""
    fleet: Fleet = request.app.state.fleet
    return fleet


async def streams_of(request: Request) -> Streams:
    """Find the application's streams."""
    streams: Streams = request.app.state.streams
    return streams


def checked_id(agent_id: str) -> str:
    """Refuse what cannot name an agent before it comes near a subject."""
    if not is_agent_id(agent_id):
        raise AgentNotFound(
            f"cannot find an agent named {agent_id[:80]!r}: no agent can have this id", f"ids match {AGENT_ID_PATTERN}"
        )
    return agent_id


TheFleet = Annotated[Fleet, Depends(fleet_of)]
TheStreams = Annotated[Streams, Depends(streams_of)]
LastEventId = Annotated[
    str | None, Header(max_length=60_000, description="The id of the last event that a cut stream told; goes on there.")
]


async def existing(fleet: TheFleet, caller: TheCaller, agent_id: str) -> str:
    """Refuse an agent that does not exist for the caller."""
    await require_agent(fleet, caller, checked_id(agent_id))
    return agent_id


TheAgent = Annotated[str, Depends(existing)]


def given(params: Params) -> dict[str, JsonValue]:
    """Return what the caller set, as it travels: without what is for the API alone."""
    return params.model_dump(mode="json", exclude_unset=True, exclude={"agent", "follow"})


@router.get("", response_model_exclude={"next"}, dependencies=_READ, responses=answers(example=examples.AGENTS))
async def list_agents(fleet: TheFleet, caller: TheCaller, wanted: Annotated[Selection, Query()]) -> AgentList:
    """Every agent that matches all filters and that the caller may use; `total` counts them before paging."""
    return wanted.page(await visible_agents(fleet, caller, wanted.asked()))


@router.get("/{agent_id}", dependencies=_READ, responses=answers(404, example=examples.AGENT))
async def get_agent(fleet: TheFleet, agent_id: TheAgent) -> AgentView:
    """One agent with its instances."""
    return await fleet.query("get", AgentView, agent_id)


@router.get("/{agent_id}/status", dependencies=_READ, responses=answers(404, example=examples.STATUS))
async def get_status(fleet: TheFleet, agent_id: TheAgent) -> StatusView:
    """An agent's status, its health as it says itself, and the facts behind both."""
    return await fleet.query("status", StatusView, agent_id)


@router.get("/{agent_id}/config", dependencies=_READ, responses=answers(404, 422, example=examples.CONFIG))
async def get_config(fleet: TheFleet, agent_id: TheAgent) -> ConfigView:
    """An agent's config as its instances get it, and what it is made of; `PUT` the agent to change it."""
    return await fleet.query("config", ConfigView, agent_id)


@router.get("/{agent_id}/why", dependencies=_READ, responses=answers(404, example=examples.WHY))
async def get_why(fleet: TheFleet, agent_id: TheAgent) -> WhyView:
    """The shortest chain of causes that explains an agent's status, and what to do about it."""
    return await fleet.query("why", WhyView, agent_id)


@router.get("/{agent_id}/metrics", dependencies=_READ, responses=answers(404, example=examples.METRICS))
async def get_metrics(fleet: TheFleet, agent_id: TheAgent) -> MetricsView:
    """The figures of an agent, summed over its instances, and of each."""
    return await fleet.query("metrics", MetricsView, agent_id)


class LogsOf(LogsParams):
    """Which lines; with `follow`, also those to come, as server-sent events."""

    follow: bool = False


@router.get(
    "/{agent_id}/logs",
    response_model=LogsView,
    dependencies=_READ,
    responses=streamed(answers(404, example=examples.LOGS), LogLine),
)
async def get_logs(
    fleet: TheFleet,
    streams: TheStreams,
    caller: TheCaller,
    agent_id: TheAgent,
    params: Annotated[LogsOf, Query()],
    last_event_id: LastEventId = None,
) -> LogsView | HttpResponse:
    """The last lines, or those after an earlier answer's `next`; `follow=true` streams them, one event a line."""
    if not params.follow:
        return await fleet.query("logs", LogsView, agent_id, given(params))

    async def guard() -> None:
        await require_agent(fleet, caller, agent_id)

    text = last_event_id or params.after
    filters = {name: value for name, value in given(params).items() if name != "after"}
    position = LogPosition.parse(text) if text else None
    return await streams.start(LogSource(fleet, agent_id, filters, position, guard))
