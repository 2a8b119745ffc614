"""The route that commands many agents, chosen by id or by label: one result each, whatever becomes of the others."""

import asyncio
from collections.abc import Callable
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
from management_api.tenancy import no_such_agent, visibility, visible_agents
from opmas.wire.errors import OpmasError
from opmas.wire.messages import Response, failure
from opmas.wire.params import ControlParams

router = APIRouter(prefix="/api/v1/agents", tags=["control"])

# All are commanded at once: a manager decides a thousand commands in one transaction, and waits for all together.
MAX_AGENTS = 1000

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
    chosen = await _chosen(fleet, caller, body)
    visible = await visibility(fleet, caller)
    wait = 0.0 if body.action == "reload" else params.wait
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(_send(fleet, visible, body.action, each, wait), name=each) for each in chosen]
    results = tuple(task.result() for task in sent)
    return BatchResult(results=results, total=len(results), failed=sum(r.error is not None for r in results))


async def _chosen(fleet: Fleet, caller: Principal, body: Batch) -> list[str]:
    if body.agent_ids is not None:
        return list(dict.fromkeys(body.agent_ids))
    labels = body.labels or {}
    return [agent.id for agent in await visible_agents(fleet, caller) if has_labels(agent, labels)]


async def _send(fleet: Fleet, visible: Callable[[str], bool], action: Action, agent_id: str, wait: float) -> Response:
    try:
        if not visible(checked_id(agent_id)):
            raise no_such_agent(agent_id)
    except OpmasError as error:
        return failure(action, agent_id[:80], error.body())
    return await send(fleet, action, agent_id, wait)
