"""Routes that change agents: start, stop, restart, scale.

They answer the response that goes over NATS, whatever became of the command; the HTTP status follows its error's code.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query
from fastapi.responses import Response as HttpResponse
from pydantic import BaseModel, ConfigDict, JsonValue

from management_api.agents import TheAgent, TheFleet
from management_api.auth import requires
from management_api.errors import retry_headers
from management_api.fleet import Fleet
from opmas.wire.errors import OpmasError, error_of
from opmas.wire.messages import Response, failure
from opmas.wire.params import ControlParams, ScaleParams

router = APIRouter(prefix="/api/v1/agents", tags=["control"])

Wait = Annotated[ControlParams, Query()]


class Scale(BaseModel):
    """How many instances there shall be."""

    model_config = ConfigDict(extra="forbid")

    replicas: Annotated[int, *ScaleParams.model_fields["replicas"].metadata]


@router.post("/{agent_id}/scale", response_model=Response, dependencies=[requires("agents:control")])
async def scale(fleet: TheFleet, agent_id: TheAgent, params: Wait, body: Annotated[Scale, Body()]) -> HttpResponse:
    """Change the number of instances, without touching those that stay."""
    return await _send(fleet, "scale", agent_id, params, {"replicas": body.replicas})


@router.post("/{agent_id}/{command}", response_model=Response, dependencies=[requires("agents:control")])
async def control(
    fleet: TheFleet, agent_id: TheAgent, command: Literal["start", "stop", "restart"], params: Wait
) -> HttpResponse:
    """Start, stop or restart; answered once that is decided, or with `?wait=SECONDS` once it is so."""
    return await _send(fleet, command, agent_id, params, {})


async def _send(
    fleet: Fleet, command: str, agent_id: str, params: ControlParams, more: dict[str, JsonValue]
) -> HttpResponse:
    wait: dict[str, JsonValue] = {"wait": params.wait} if params.wait else {}
    try:
        response = await fleet.command(command, agent_id, wait | more, params.wait)
    except OpmasError as error:
        response = failure(command, agent_id, error.body())
    status = error_of(response.error).status if response.error else 200
    return HttpResponse(response.model_dump_json(), status, retry_headers(status), "application/json")
