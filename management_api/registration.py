"""Routes that make agents from packages, change and delete them."""

import re
from typing import Annotated

from fastapi import APIRouter, Body, Query
from fastapi.responses import Response as HttpResponse
from pydantic import ConfigDict, Field, JsonValue

from management_api import examples
from management_api.agents import TheAgent, TheFleet, checked_id
from management_api.auth import Principal, TheCaller, requires
from management_api.fleet import Fleet
from management_api.openapi import answers
from opmas.wire.errors import Conflict, InvalidRequest, PermissionDenied, error_of
from opmas.wire.ids import AGENT_ID_PATTERN
from opmas.wire.params import MAX_WAIT_S, AgentFields, RegisterParams
from opmas.wire.views import Access, AgentView

router = APIRouter(prefix="/api/v1/agents", tags=["registration"])

_WRITE = [requires("agents:write")]

# The manager may look at the disk first, which it gives 8 seconds.
_LOOK_S = 8.0
# An agent is gone when its processes are; most stop within a few seconds.
_GONE_S = 30.0

_FOREIGN = re.compile(r"[^a-z0-9_-]+")

_NEW: dict[str, JsonValue] = {
    "id": "echo",
    "name": "Echo",
    "package": "echo",
    "config": {"greeting": "hello"},
    "replicas": 1,
}
_CHANGE: dict[str, JsonValue] = {
    "description": "Repeats what it hears",
    "config": {"greeting": "good morning"},
    "labels": {"team": "a"},
}


class _Body(AgentFields):
    agent_type: Annotated[
        str | None, Field(max_length=64, deprecated="use `type`", description="the former name of `type`")
    ] = None

    def fields(self, caller: Principal) -> dict[str, JsonValue]:
        """Return what the manager is told: what the body gives, for the caller's own workspace."""
        told = self.model_dump(mode="json", include=set(AgentFields.model_fields), exclude_none=True)
        if self.agent_type is not None:
            told.setdefault("type", self.agent_type)
        if self.access is not None and not caller.everywhere and set(self.access.workspaces) != {caller.workspace}:
            raise PermissionDenied(
                f"cannot give access to other workspaces than {caller.workspace!r}, or to all",
                "leave access.workspaces out, or name your workspace; administrators may name others",
            )
        return told


class NewAgent(_Body):
    """An agent to be made; without an `id` it is derived from the name."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW]})

    id: Annotated[str, Field(max_length=63, pattern=AGENT_ID_PATTERN)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    package: Annotated[str, *RegisterParams.model_fields["package"].metadata]


class AgentChange(_Body):
    """What to replace of an agent; what is left out stays. `id` and `package` may be repeated, not changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CHANGE]})

    id: Annotated[str, Field(max_length=63)] | None = None
    package: Annotated[str, Field(max_length=200)] | None = None


@router.post(
    "", status_code=201, dependencies=_WRITE, responses=answers(409, 413, 422, 504, example=examples.AGENT, success=201)
)
async def register_agent(
    fleet: TheFleet, caller: TheCaller, body: Annotated[NewAgent, Body()], answer: HttpResponse
) -> AgentView:
    """Make an agent from a package on disk; several may come from one. It starts by itself if its package says so."""
    agent_id = checked_id(body.id or _id_from(body.name))
    fields = body.fields(caller)
    if not caller.everywhere:
        fields.setdefault("access", Access(workspaces=(caller.workspace,)).model_dump(mode="json"))
    await _obeyed(fleet, "register", agent_id, fields | {"package": body.package}, _LOOK_S)
    answer.headers["Location"] = f"{router.prefix}/{agent_id}"
    return await fleet.query("get", AgentView, agent_id)


@router.put("/{agent_id}", dependencies=_WRITE, responses=answers(404, 409, 413, 422, 504, example=examples.AGENT))
async def update_agent(
    fleet: TheFleet, caller: TheCaller, agent_id: TheAgent, body: Annotated[AgentChange, Body()]
) -> AgentView:
    """Replace an agent's config and fields. Instances that run take a new config at once, the rest when they start."""
    fields = body.fields(caller)
    if body.access is not None:
        await _require_own(fleet, caller, agent_id)
    if body.id not in {None, agent_id}:
        raise Conflict(f"cannot change the id of {agent_id!r}", "delete it and register another")
    if body.package is not None and (await fleet.query("get", AgentView, agent_id)).package != body.package:
        raise Conflict(f"cannot change the package of {agent_id!r}", "delete it and register it from the other one")
    await _obeyed(fleet, "update", agent_id, fields)
    return await fleet.query("get", AgentView, agent_id)


@router.delete("/{agent_id}", status_code=204, dependencies=_WRITE, responses=answers(404, 409, 504))
async def delete_agent(
    fleet: TheFleet, agent_id: TheAgent, wait: Annotated[float, Query(ge=1, le=MAX_WAIT_S)] = _GONE_S
) -> None:
    """Stop an agent and forget it, `wait` seconds at most. Its package stays, and does not bring it back."""
    await _obeyed(fleet, "delete", agent_id, {"wait": wait}, wait)


async def _require_own(fleet: Fleet, caller: Principal, agent_id: str) -> None:
    """Let a workspace change the access of what is its own alone: else it could take from others what they share."""
    if caller.everywhere:
        return
    access = (await fleet.query("get", AgentView, agent_id)).access
    if set(access.workspaces) != {caller.workspace}:
        raise PermissionDenied(
            f"cannot change who has access to {agent_id!r}: others than {caller.workspace!r} have it too",
            "ask an administrator",
        )


async def _obeyed(fleet: Fleet, command: str, agent_id: str, params: dict[str, JsonValue], wait: float = 0.0) -> None:
    response = await fleet.command(command, agent_id, params, wait)
    if response.error is not None:
        raise error_of(response.error)


def _id_from(name: str) -> str:
    found = _FOREIGN.sub("-", name.lower()).strip("-_")[:63].rstrip("-_")
    if not found:
        raise InvalidRequest(f"cannot derive an id from the name {name[:80]!r}", "give an `id`")
    return found
