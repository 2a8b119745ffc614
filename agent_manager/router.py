"""Commands and queries in, responses out.

Nothing that arrives can stop it: what cannot be understood is answered with an error. Reports from instances are
`reports`' business.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import structlog
from pydantic import ValidationError

from agent_manager.audit import Audit
from agent_manager.decoding import decode, problems
from agent_manager.nats.identity import Publisher
from agent_manager.nats.sources import CredentialSource
from agent_manager.queries import NodeCondition
from agent_manager.tables import CommandTable, QueryTable
from opmas import __version__
from opmas.bus import (
    AnySubscription,
    Bus,
    BusUnavailable,
    Endpoint,
    Msg,
    PayloadTooLarge,
    Service,
    correlation_id,
)
from opmas.wire import subjects
from opmas.wire.errors import InvalidRequest, ManagerUnavailable, OpmasError, PermissionDenied
from opmas.wire.ids import AGENT_ID_PATTERN, is_agent_id
from opmas.wire.messages import Command, Query, Response, failure, success
from opmas.wire.params import Params
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

# Callers who wait for convergence hold a place each, for up to ten minutes.
_CONCURRENT_COMMANDS = 10_000

H = TypeVar("H")


class Router:
    """Subscribes, decodes, dispatches, answers."""

    def __init__(
        self,
        bus: Bus,
        node: str,
        commands: CommandTable,
        queries: QueryTable,
        credentials: CredentialSource,
        audit: Audit,
        condition: Callable[[], NodeCondition],
    ) -> None:
        self._bus = bus
        self._credentials = credentials
        self._audit = audit
        self._condition = condition
        self._endpoints = {
            "command": Endpoint("command", subjects.COMMAND, subjects.MANAGERS_QUEUE),
            "query": Endpoint("query", subjects.QUERY, subjects.MANAGERS_QUEUE),
        }
        self._service = Service(
            name="opmas-manager",
            id=node,
            version=__version__,
            description="Runs the agents of one node",
            endpoints=tuple(self._endpoints.values()),
        )
        self._listening: list[AnySubscription] = []
        self._commands = commands
        self._queries = queries

    async def listen(self, tasks: asyncio.TaskGroup) -> None:
        """Subscribe; returns when the server knows of every subscription."""
        identified = self._credentials.identified
        command = subjects.IDENTIFIED_COMMAND if identified else subjects.COMMAND
        query = subjects.IDENTIFIED_QUERY if identified else subjects.QUERY
        queue, many = subjects.MANAGERS_QUEUE, _CONCURRENT_COMMANDS
        subscribe = self._bus.subscribe
        self._listening = [
            await subscribe(command, self._on_command, tasks=tasks, queue=queue, concurrency=many),
            await subscribe(query, self._on_query, tasks=tasks, queue=queue, concurrency=many),
        ]
        for subject in self._service.subjects:
            await subscribe(subject, partial(self._service.answer, self._bus), tasks=tasks)
        while True:
            try:
                return await self._bus.flush()
            except BusUnavailable as error:  # the server went at this very moment; the bus subscribes again with it
                log.warning("waiting_for_nats", reason=error.message, hint=error.hint)

    async def settle(self) -> None:
        """Take no more commands and queries, and return when all that were taken are answered."""
        for subscription in self._listening:
            await subscription.drain()

    # --- commands and queries -----------------------------------------------------------------------------------

    async def _on_command(self, msg: Msg) -> None:
        with self._endpoints["command"].request():
            await self._take_command(msg)

    async def _take_command(self, msg: Msg) -> None:
        name, agent_id = "unknown", None
        publisher = self._publisher(msg)
        command: Command | None = None
        try:
            command = decode(Command, msg.data)
            name, agent_id = command.command, command.agent_id
            response = await self._obey(command, publisher)
        except OpmasError as error:
            response = failure(name, agent_id, error.body())
        except Exception:  # the edge of a NATS message
            log.exception("command_failed", command=name, agent=agent_id)
            response = failure(name, agent_id, OpmasError("the manager failed; its log says where").body())
        await self._audit.answered(command, msg, str(publisher or "unknown"), response)
        await self._respond(msg, response)

    async def _obey(self, command: Command, publisher: Publisher | None) -> Response:
        if (condition := self._condition()) != "ready":
            raise ManagerUnavailable(f"cannot take commands: {_UNREADY[condition]}", "try again in a moment")
        if self._credentials.identified and (publisher is None or not publisher.may_command):
            raise PermissionDenied(
                f"{publisher or 'an unknown publisher'} may not command the manager",
                "use credentials made for publishers: `opmas env` prints them",
            )
        kind, handle = _known(self._commands, command.command, "command")
        _check_agent_id(command.agent_id)
        params = _params(kind, command.command, command.params)
        cause = Cause(
            actor=str(publisher or "publisher"), command=command.command, correlation_id=correlation_id() or ""
        )
        return success(command.command, command.agent_id, await handle(command.agent_id, params, cause))

    async def _on_query(self, msg: Msg) -> None:
        with self._endpoints["query"].request():
            await self._take_query(msg)

    async def _take_query(self, msg: Msg) -> None:
        name, agent_id = "unknown", None
        try:
            query = decode(Query, msg.data)
            name, agent_id = query.query, query.agent_id
            response = await self._look(query)
        except OpmasError as error:
            response = failure(name, agent_id, error.body())
        except Exception:  # the edge of a NATS message
            log.exception("query_failed", query=name, agent=agent_id)
            response = failure(name, agent_id, OpmasError("the manager failed; its log says where").body())
        await self._respond(msg, response)

    async def _look(self, query: Query) -> Response:
        name, agent_id = query.query, query.agent_id
        kind, ask = _known(self._queries, name, "query")
        # Until the database is read, "there is no such agent" would be a guess.
        if (condition := self._condition()) == "starting" and name not in _ABOUT_THE_MANAGER:
            raise ManagerUnavailable(f"cannot answer yet: {_UNREADY[condition]}", "try again in a moment")
        if agent_id is not None or name in _ABOUT_ONE:
            _check_agent_id(agent_id or "")
        return success(name, agent_id, await ask(agent_id, _params(kind, name, query.params)))

    async def _respond(self, msg: Msg, response: Response) -> None:
        try:
            await self._send(msg, response)
        except PayloadTooLarge as error:
            await self._send(msg, failure(response.command, response.agent_id, error.body()))
        except OpmasError as error:
            log.warning("response_lost", command=response.command, reason=error.message)

    async def _send(self, msg: Msg, response: Response) -> None:
        await self._bus.respond(msg, response)
        await self._bus.publish(subjects.RESPONSE, response)

    def _publisher(self, msg: Msg) -> Publisher | None:
        return self._credentials.publisher_of(msg.subject, dict(msg.headers))


_ABOUT_ONE = frozenset({"get", "status", "why", "logs", "metrics"})
_ABOUT_THE_MANAGER = frozenset({"health", "nodes"})

_UNREADY: dict[NodeCondition, str] = {
    "starting": "the manager is starting and has not read its database yet",
    "draining": "the manager is stopping",
}


def _known(table: Mapping[str, H], name: str, noun: str) -> H:
    if name not in table:
        raise InvalidRequest(f"unknown {noun} {name[:64]!r}", f"a {noun} is one of {', '.join(sorted(table))}")
    return table[name]


def _check_agent_id(agent_id: str) -> None:
    if not is_agent_id(agent_id):
        raise InvalidRequest(f"{agent_id!r} cannot be the id of an agent", f"ids match {AGENT_ID_PATTERN}")


def _params(kind: type[Params], name: str, params: Mapping[str, object]) -> Params:
    try:
        return kind.model_validate(params)
    except ValidationError as error:
        known = ", ".join(kind.model_fields) or "none"
        raise InvalidRequest(f"cannot {name}: {problems(error)}", f"its parameters are: {known}") from None
