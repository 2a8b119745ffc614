"""The route that commands many agents, chosen by id or by label: one result each, whatever becomes of the others."""

import asyncio
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from management_api import examples
from management_api.agents import TheFleet, checked_id
from management_api.auth import Principal, TheCaller, requires
from management_api.control import send
from management_api.fleet import Fleet
from management_api.listing import has_labels
from management_api.openapi import answers
from management_api.tenancy import require_agent, visible_agents
from opmas.wire.errors import OpmasError
from opmas.wire.messages import Response, failure
from opmas.wire.params import ControlParams

router = APIRouter(prefix="/api/v1/agents", tags=["control"])

MAX_AGENTS = 1000

# Enough to keep a manager busy, few enough to leave it time for others.
_AT_ONCE = 64

Action = Literal["start", "stop", "restart", "enable", "disable", "reload"]


class Batch(BaseModel):
    """One action and the agents it is for: those named, or all that carry every one of the labels."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"action": "restart", "labels": {"team": "a"}}],
            "oneOf": [
                {"required": ["agent_ids"], "properties": {"agent_ids": {"type": "array"}}},
                {"required": ["labels"], "properties": {"labels": {"type": "object"}}},
            ],
        },
    )

    action: Action
    agent_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_AGENTS)] | None = None
    labels: Annotated[dict[str, str], Field(min_length=1, max_length=20)] | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.agent_ids is None) == (self.labels is None):
            raise ValueError("give either agent_ids or labels")
        return self


class BatchResult(BaseModel):
    """A result for every agent, in the order given (by id, if chosen by label), each in the response format."""

    results: tuple[Response, ...]
    total: int
    failed: int


_DONE = BatchResult(results=(examples.response("start"), examples.REFUSED), total=2, failed=1)


@router.post("/batch", dependencies=[requires("agents:control")], responses=answers(413, example=_DONE))
async def command_agents(
    fleet: TheFleet, caller: TheCaller, body: Annotated[Batch, Body()], params: Annotated[ControlParams, Query()]
) -> BatchResult:
    """Give one command to many agents. The answer is 200 whatever became of each: see `failed` and the results."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(agent_id: str) -> Response:
        async with room:
            return await _send(fleet, caller, body.action, agent_id, params.wait)

    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(one(i), name=f"{body.action} {i}") for i in await _chosen(fleet, caller, body)]
    results = tuple(task.result() for task in sent)
    return BatchResult(results=results, total=len(results), failed=sum(r.error is not None for r in results))


async def _chosen(fleet: Fleet, caller: Principal, body: Batch) -> list[str]:
    if body.agent_ids is not None:
        return list(dict.fromkeys(body.agent_ids))
    labels = body.labels or {}
    return [agent.id for agent in await visible_agents(fleet, caller) if has_labels(agent, labels)]


async def _send(fleet: Fleet, caller: Principal, action: Action, agent_id: str, wait: float) -> Response:
    try:
        await require_agent(fleet, caller, checked_id(agent_id))
    except OpmasError as error:
        return failure(action, agent_id[:80], error.body())
    return await send(fleet, action, agent_id, 0.0 if action == "reload" else wait)
