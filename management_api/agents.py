"""Routes that tell about agents: the list, one agent, its status, metrics and logs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import JsonValue

from management_api.auth import TheCaller, requires
from management_api.auth.tenancy import require_agent, visible_agents
from management_api.fleet import Fleet
from opmas.wire.errors import AgentNotFound
from opmas.wire.ids import AGENT_ID_PATTERN, is_agent_id
from opmas.wire.params import ListParams, LogsParams, Params
from opmas.wire.views import AgentList, AgentView, LogsView, MetricsView, StatusView

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])


def fleet_of(request: Request) -> Fleet:
    """Find the fleet that the application was started with."""
    fleet: Fleet = request.app.state.fleet
    return fleet


def checked_id(agent_id: str) -> str:
    """Refuse what cannot name an agent before it comes near a subject."""
    if not is_agent_id(agent_id):
        raise AgentNotFound(
            f"cannot find an agent named {agent_id[:80]!r}: no agent can have this id", f"ids match {AGENT_ID_PATTERN}"
        )
    return agent_id


TheFleet = Annotated[Fleet, Depends(fleet_of)]


async def existing(fleet: TheFleet, caller: TheCaller, agent_id: Annotated[str, Depends(checked_id)]) -> str:
    """Refuse an agent that does not exist for the caller."""
    await require_agent(fleet, caller, agent_id)
    return agent_id


TheAgent = Annotated[str, Depends(existing)]


def given(params: Params) -> dict[str, JsonValue]:
    """Return what the caller set, as it travels."""
    return params.model_dump(mode="json", exclude_unset=True, exclude={"agent"})  # which goes beside the parameters


@router.get("", response_model_exclude={"next"}, dependencies=[requires("agents:read")])
async def list_agents(fleet: TheFleet, caller: TheCaller, params: Annotated[ListParams, Query()]) -> AgentList:
    """Every agent that the caller may use, by id; `label` is `key=value`."""
    agents = await visible_agents(fleet, caller, params)
    return AgentList(agents=agents, total=len(agents))


@router.get("/{agent_id}", dependencies=[requires("agents:read")])
async def get_agent(fleet: TheFleet, agent_id: TheAgent) -> AgentView:
    """One agent with its instances."""
    return await fleet.query("get", AgentView, agent_id)


@router.get("/{agent_id}/status", dependencies=[requires("agents:read")])
async def get_status(fleet: TheFleet, agent_id: TheAgent) -> StatusView:
    """An agent's status, its health as it says itself, and the facts behind both."""
    return await fleet.query("status", StatusView, agent_id)


@router.get("/{agent_id}/metrics", dependencies=[requires("agents:read")])
async def get_metrics(fleet: TheFleet, agent_id: TheAgent) -> MetricsView:
    """The figures of an agent, summed over its instances, and of each."""
    return await fleet.query("metrics", MetricsView, agent_id)


@router.get("/{agent_id}/logs", dependencies=[requires("agents:read")])
async def get_logs(fleet: TheFleet, agent_id: TheAgent, params: Annotated[LogsParams, Query()]) -> LogsView:
    """The last lines, or those after an earlier answer's `next`."""
    return await fleet.query("logs", LogsView, agent_id, given(params))
