"""Commands and queries: those every agent has, and the author's; each ends in a response, whatever it holds.

The response goes to the asker's inbox, or to `agent.{id}.response` when there is none.
"""

import logging
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from opmas.agent.handlers import Handler, Kind, call
from opmas.agent.message import as_json
from opmas.bus import Endpoint, Msg, PayloadTooLarge, Service
from opmas.wire import subjects
from opmas.wire.errors import AgentFailed, InvalidRequest, OpmasError
from opmas.wire.messages import Command, Query, Response, failure, success

if TYPE_CHECKING:
    from opmas.agent.instance import Instance

logger = logging.getLogger(__name__)

Params = dict[str, JsonValue]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _OwnCommand(Command):
    """A command on our own subject, which already says for whom it is."""

    agent_id: str = ""
    # A response has one. Whoever asks a manager names any subject for the answer, ours too; the answer repeats a word
    # of the asker's as `command`, and must not become one that the asker may not give.
    status: JsonValue = None


class Answers:
    """What one instance answers."""

    def __init__(self, instance: "Instance", handlers: list[Handler]) -> None:
        self._instance = instance
        self._commands = {each.mark.name: each.function for each in handlers if each.mark.kind is Kind.COMMAND}
        self._queries = {each.mark.name: each.function for each in handlers if each.mark.kind is Kind.QUERY}
        agent_id = instance.environment.agent_id
        self._endpoints = {
            Kind.COMMAND: Endpoint("command", subjects.command(agent_id)),
            Kind.QUERY: Endpoint("query", subjects.query(agent_id), queue_group=agent_id),
        }
        self._commands |= {
            "cancel": self._cancel,
            "drain": self._drain,
            "reload": self._reload,
            "log_level": self._log_level,
        }
        self._queries |= {"health": self._health, "metrics": self._metrics, "info": self._info}

    async def take_command(self, msg: Msg) -> None:
        """Answer a message on `agent.{id}.command`; one that names another instance is left to that one."""
        await self._take(Kind.COMMAND, msg)

    async def take_query(self, msg: Msg) -> None:
        """Answer a message on `agent.{id}.query`."""
        await self._take(Kind.QUERY, msg)

    def service(self) -> Service:
        """This instance as a NATS micro service."""
        environment = self._instance.environment
        return Service(
            name=environment.agent_id,
            id=environment.instance_id,
            version=environment.version,
            metadata={"type": environment.type},
            endpoints=tuple(self._endpoints.values()),
        )

    async def _take(self, kind: Kind, msg: Msg) -> None:
        endpoint = self._endpoints[kind]
        with endpoint.request():
            failed = await self._answered(kind, msg)
        if failed:
            endpoint.failed(failed)

    async def _answered(self, kind: Kind, msg: Msg) -> str:
        """Answer one message; return the error's message if that was the answer."""
        name = ""
        try:
            name, params = _parsed(kind, msg)
            if kind is Kind.COMMAND and params.get("instance_id", self._instance_id) != self._instance_id:
                return ""
            response = success(name, self._agent_id, await self._result(kind, name, params))
        except OpmasError as error:
            response = failure(name, self._agent_id, error.body())
        except Exception as error:  # the edge of a NATS message: logged, counted, and the asker is told
            logger.exception("cannot answer the %s %r", kind, name)
            self._instance.failed(error)
            response = failure(name, self._agent_id, told(error).body())
        await self._respond(msg, response)
        return response.error.message if response.error else ""

    @property
    def _agent_id(self) -> str:
        return self._instance.environment.agent_id

    @property
    def _instance_id(self) -> str:
        return self._instance.environment.instance_id

    async def _result(self, kind: Kind, name: str, params: Params) -> JsonValue:
        known = self._commands if kind is Kind.COMMAND else self._queries
        function = known.get(name)
        if function is None:
            near = get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InvalidRequest(
                f"{self._agent_id} has no {kind} {name!r}", f"{hint}It has {', '.join(sorted(known))}."
            )
        result = await call(function, params)
        try:
            value: JsonValue = from_json(as_json(result))
        except InvalidRequest as error:
            raise AgentFailed(f"what {kind} {name!r} of {self._agent_id} returned: {error}", error.hint) from error
        return value

    async def _respond(self, msg: Msg, response: Response) -> None:
        try:
            await self._send(msg, response)
        except PayloadTooLarge as error:
            await self._send(msg, failure(response.command, self._agent_id, error.body()))

    async def _send(self, msg: Msg, response: Response) -> None:
        if not await self._instance.bus.respond(msg, response):
            await self._instance.bus.publish(subjects.response(self._agent_id), response)

    # --- what every agent answers ----------------------------------------------------------------------------------

    async def _drain(self, _params: Params) -> JsonValue:
        self._instance.ask_to_end()
        return {"draining": True, "in_flight": self._instance.in_flight}

    async def _cancel(self, params: Params) -> JsonValue:
        run_id = params.get("run_id")
        if not isinstance(run_id, str):
            raise InvalidRequest("cannot cancel: `run_id` has to be the id of a run")
        return {"run_id": run_id, "cancelled": self._instance.runs.cancel(run_id)}

    async def _reload(self, params: Params) -> JsonValue:
        new = params.get("config")
        if new is not None and not isinstance(new, dict):
            raise InvalidRequest("cannot reload: `config` has to be a mapping", "Leave it out to read the file again.")
        await self._instance.reload(new)
        return {"config": self._instance.config}

    async def _log_level(self, params: Params) -> JsonValue:
        level = str(params.get("level", "")).upper()
        if level not in _LEVELS:
            raise InvalidRequest(f"there is no log level {level!r}", f"They are {', '.join(_LEVELS)}.")
        logging.getLogger().setLevel(level)
        return {"level": level}

    async def _health(self, _params: Params) -> JsonValue:
        instance = self._instance
        health = await instance.check_health()
        return {
            "healthy": health.healthy,
            "message": health.message,
            "details": health.details,
            "instance_id": instance.environment.instance_id,
            "in_flight": instance.in_flight,
            "uptime_s": round(time.monotonic() - instance.since, 3),
        }

    async def _metrics(self, _params: Params) -> JsonValue:
        figures: dict[str, JsonValue] = {**await self._instance.collect_metrics()}
        return figures

    async def _info(self, _params: Params) -> JsonValue:
        environment = self._instance.environment
        return {
            "agent_id": environment.agent_id,
            "instance_id": environment.instance_id,
            "name": environment.name,
            "type": environment.type,
            "version": environment.version,
            "runtime": environment.runtime,
            "pid": self._instance.pid,
            "subjects": [*self._instance.listens_to],
            "commands": [*sorted(self._commands)],
            "queries": [*sorted(self._queries)],
            **self._instance.agent.describe(),
        }


def told(error: Exception) -> OpmasError:
    """Turn what an author's function raised into what its asker is told."""
    if isinstance(error, OpmasError):
        return error
    return AgentFailed(f"{type(error).__name__}: {error}"[:2000], "The log of the agent says where.")


def _parsed(kind: Kind, msg: Msg) -> tuple[str, Params]:
    try:
        if kind is Kind.COMMAND:
            command = _OwnCommand.model_validate_json(msg.data)
            if command.status is not None:
                raise InvalidRequest("cannot obey a response: it is no command")
            return command.command, command.params
        query = Query.model_validate_json(msg.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "".join(f"{step}: " for step in first["loc"])
        raise InvalidRequest(
            f"cannot understand the message on {msg.subject}: {where}{first['msg']}",
            f"It is a JSON object with at least `{kind}`.",
        ) from error
    return query.query, query.params
