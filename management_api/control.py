"""Routes that say what agents shall do: start, stop, restart, scale, enable, disable, reload; one agent or many.

They answer the response that goes over NATS, whatever became of the command; the HTTP status follows its error's code.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Body, Query
from fastapi.responses import Response as HttpResponse
from pydantic import BaseModel, ConfigDict, JsonValue

from management_api import examples
from management_api.agents import TheAgent, TheFleet
from management_api.auth import requires
from management_api.errors import retry_headers
from management_api.fleet import Fleet
from management_api.openapi import commanded
from opmas.wire.errors import OpmasError, error_of
from opmas.wire.messages import Response, failure
from opmas.wire.params import ControlParams, ScaleParams

router = APIRouter(prefix="/api/v1/agents", tags=["control"])

CONTROL = [requires("agents:control")]

# To look at the packages again the manager takes 8 seconds at most.
_LOOK_S = 8.0

Wait = Annotated[ControlParams, Query()]

_MEANINGS = {
    "start": "Start an agent and what it depends on; starting what runs changes nothing.",
    "stop": "Stop an agent.",
    "restart": "Give an agent new processes.",
    "enable": "Let a disabled agent be started again.",
    "disable": "Stop an agent, and let nothing start it until it is enabled.",
}


class Scale(BaseModel):
    """How many instances there shall be."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"replicas": 3}]})

    replicas: Annotated[int, *ScaleParams.model_fields["replicas"].metadata]


@router.post(
    "/{agent_id}/scale",
    response_model=Response,
    dependencies=CONTROL,
    responses=commanded(example=examples.response("scale")),
)
async def scale_agent(
    fleet: TheFleet, agent_id: TheAgent, params: Wait, body: Annotated[Scale, Body()]
) -> HttpResponse:
    """Change the number of instances, without touching those that stay."""
    return http_of(await send(fleet, "scale", agent_id, params.wait, {"replicas": body.replicas}))


@router.post(
    "/{agent_id}/reload",
    response_model=Response,
    dependencies=CONTROL,
    responses=commanded(example=examples.response("reload")),
)
async def reload_agent(fleet: TheFleet, agent_id: TheAgent) -> HttpResponse:
    """Look at the packages again, and let the agent's instances read their config again."""
    return http_of(await send(fleet, "reload", agent_id))


def _control(command: str) -> Callable[..., Awaitable[HttpResponse]]:
    async def control(fleet: TheFleet, agent_id: TheAgent, params: Wait) -> HttpResponse:
        return http_of(await send(fleet, command, agent_id, params.wait))

    return control


for _command, _meaning in _MEANINGS.items():
    router.add_api_route(
        f"/{{agent_id}}/{_command}",
        _control(_command),
        methods=["POST"],
        name=f"{_command}_agent",
        description=f"{_meaning} Answered once that is decided, or with `wait` once it is so.",
        response_model=Response,
        dependencies=CONTROL,
        responses=commanded(example=examples.response(_command)),
    )


async def send(
    fleet: Fleet, command: str, agent_id: str, wait: float = 0.0, more: dict[str, JsonValue] | None = None
) -> Response:
    """Give a command; what becomes of it is a response, also when no manager answers."""
    params: dict[str, JsonValue] = {"wait": wait} if wait else {}
    try:
        return await fleet.command(command, agent_id, params | (more or {}), _LOOK_S if command == "reload" else wait)
    except OpmasError as error:
        return failure(command, agent_id, error.body())


def http_of(response: Response) -> HttpResponse:
    """Put a response into an answer of the HTTP status that belongs to its error."""
    status = error_of(response.error).status if response.error else 200
    return HttpResponse(response.model_dump_json(), status, retry_headers(status), "application/json")
