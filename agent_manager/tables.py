"""Which commands and queries there are: each one's parameters, and who carries it out."""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from pydantic import BaseModel

from agent_manager.commands import Commands, status_now
from agent_manager.history import History
from agent_manager.queries import Queries
from agent_manager.registration import Registration
from agent_manager.registry import AgentRegistry
from opmas.wire.params import (
    AuditParams,
    ControlParams,
    EventsParams,
    ListParams,
    LogsParams,
    NoParams,
    PackagesParams,
    Params,
    RegisterParams,
    ScaleParams,
    UpdateParams,
)
from opmas.wire.views import Cause

Answer = BaseModel
Handle = Callable[[str, Params, Cause], Awaitable[Answer]]
Ask = Callable[[str | None, Params], Awaitable[Answer]]
CommandTable = Mapping[str, tuple[type[Params], Handle]]
QueryTable = Mapping[str, tuple[type[Params], Ask]]


def command_table(commands: Commands, registration: Registration, registry: AgentRegistry) -> CommandTable:
    """Every command by name."""

    async def status(agent_id: str, _params: Params, _cause: Cause) -> Answer:
        return status_now(registry.get(agent_id))

    return {
        "start": (ControlParams, cast(Handle, commands.start)),
        "stop": (ControlParams, cast(Handle, commands.stop)),
        "restart": (ControlParams, cast(Handle, commands.restart)),
        "scale": (ScaleParams, cast(Handle, commands.scale)),
        "enable": (ControlParams, cast(Handle, commands.enable)),
        "disable": (ControlParams, cast(Handle, commands.disable)),
        "register": (RegisterParams, cast(Handle, registration.register)),
        "update": (UpdateParams, cast(Handle, registration.update)),
        "delete": (ControlParams, cast(Handle, registration.delete)),
        "reload": (NoParams, cast(Handle, registration.reload)),
        "status": (NoParams, status),
    }


def query_table(queries: Queries, history: History) -> QueryTable:
    """Every query by name."""

    def about_all(answer: Callable[[Params], Answer]) -> Ask:
        async def ask(_agent_id: str | None, params: Params) -> Answer:
            return answer(params)

        return ask

    def about_one(answer: Callable[[str], Answer]) -> Ask:
        async def ask(agent_id: str | None, _params: Params) -> Answer:
            return answer(agent_id or "")

        return ask

    async def why(agent_id: str | None, _params: Params) -> Answer:
        return await history.why(agent_id or "")

    async def metrics(agent_id: str | None, _params: Params) -> Answer:
        return await queries.metrics(agent_id or "")

    return {
        "list": (ListParams, about_all(cast(Callable[[Params], Answer], queries.list))),
        "packages": (PackagesParams, about_all(cast(Callable[[Params], Answer], queries.packages))),
        "nodes": (NoParams, about_all(lambda _params: queries.nodes())),
        "health": (NoParams, about_all(lambda _params: queries.health())),
        "get": (NoParams, about_one(queries.get)),
        "status": (NoParams, about_one(queries.status)),
        "config": (NoParams, about_one(queries.config)),
        "metrics": (NoParams, metrics),
        "logs": (LogsParams, cast(Ask, queries.logs)),
        "events": (EventsParams, cast(Ask, history.events)),
        "why": (NoParams, why),
        "audit": (AuditParams, cast(Ask, history.audit)),
    }
