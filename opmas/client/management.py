"""`OpmasClient`, which speaks to the management API: typed answers, and the errors of `opmas.wire.errors`.

One call is one request: what to repeat, and when, is for the caller to decide. Commands bear repeating; they say how
things shall be, not what to do.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from opmas.bus import correlation_id
from opmas.wire.errors import DeadlineExceeded, ErrorBody, InvalidRequest, ManagerUnavailable, OpmasError, error_of
from opmas.wire.ids import is_agent_id
from opmas.wire.messages import Response
from opmas.wire.params import EventsParams, ListParams, LogsParams, PackagesParams, Params
from opmas.wire.subjects import CORRELATION_HEADER
from opmas.wire.views import (
    AgentList,
    AgentView,
    ControlResult,
    EventsView,
    LogsView,
    MetricsView,
    PackageList,
    StatusView,
)

ANSWER_S = 10.0

Model = TypeVar("Model", bound=BaseModel)


class OpmasClient:
    """A connection to one management API; `async with` closes it. Every call has a deadline, `timeout_s` plus any wait.

    Raises `ManagerUnavailable` when the API or a manager cannot be reached, `PermissionDenied` for a wrong token, and
    what the manager answers: `AgentNotFound`, `Conflict`, `AgentFailed` and the others.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = ANSWER_S) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        # The deadline is ours (see _exchange): httpx2's own counts anew with every byte that arrives.
        self._http = httpx2.AsyncClient(
            base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=None, trust_env=False
        )

    def __repr__(self) -> str:
        return f"OpmasClient({self._url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used again."""
        await self._http.aclose()

    async def agents(self, params: ListParams | None = None) -> AgentList:
        """Every agent of the fleet, or those that match."""
        return await self._get("/api/v1/agents", AgentList, params)

    async def agent(self, agent_id: str) -> AgentView:
        """One agent with its instances."""
        return await self._get(_path(agent_id), AgentView)

    async def status(self, agent_id: str) -> StatusView:
        """An agent's status, its health as it says itself, and the facts behind both."""
        return await self._get(_path(agent_id, "/status"), StatusView)

    async def metrics(self, agent_id: str) -> MetricsView:
        """The figures of an agent, summed over its instances, and of each."""
        return await self._get(_path(agent_id, "/metrics"), MetricsView)

    async def logs(self, agent_id: str, params: LogsParams | None = None) -> LogsView:
        """The last lines, or those after an earlier answer's `next`."""
        return await self._get(_path(agent_id, "/logs"), LogsView, params)

    async def events(self, agent_id: str | None = None, params: EventsParams | None = None) -> EventsView:
        """Status changes and their causes, of all agents or of one."""
        only = {"agent": agent_id} if agent_id is not None else {}
        return await self._get("/api/v1/events", EventsView, params, only)

    async def packages(self, params: PackagesParams | None = None) -> PackageList:
        """Every package on disk, broken ones with their error."""
        return await self._get("/api/v1/packages", PackageList, params)

    async def start(self, agent_id: str, *, wait: float = 0.0) -> ControlResult:
        """Start an agent; with `wait`, return when it runs, or raise `DeadlineExceeded` after so many seconds."""
        return await self._control("start", agent_id, wait)

    async def stop(self, agent_id: str, *, wait: float = 0.0) -> ControlResult:
        """Stop an agent; `wait` as with `start`."""
        return await self._control("stop", agent_id, wait)

    async def restart(self, agent_id: str, *, wait: float = 0.0) -> ControlResult:
        """Restart an agent; `wait` as with `start`."""
        return await self._control("restart", agent_id, wait)

    async def scale(self, agent_id: str, replicas: int, *, wait: float = 0.0) -> ControlResult:
        """Set how many instances an agent has; `wait` as with `start`."""
        return await self._control("scale", agent_id, wait, {"replicas": replicas})

    async def _get(
        self, path: str, model: type[Model], params: Params | None = None, more: Mapping[str, str] | None = None
    ) -> Model:
        query = params.model_dump(mode="json", exclude_unset=True, exclude_none=True) if params else {}
        answer = await self._exchange("GET", path, self._timeout_s, params=query | dict(more or {}))
        return _read(answer, model)

    async def _control(
        self, command: str, agent_id: str, wait: float, body: Mapping[str, int] | None = None
    ) -> ControlResult:
        query = {"wait": wait} if wait else {}
        answer = await self._exchange(
            "POST", _path(agent_id, f"/{command}"), self._timeout_s + wait, params=query, json=body
        )
        return ControlResult.model_validate(_read(answer, Response).result)

    async def _exchange(self, method: str, path: str, timeout_s: float, **request: Any) -> httpx2.Response:
        identity = correlation_id()
        headers = {CORRELATION_HEADER: identity} if identity else {}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.request(method, path, headers=headers, **request)
        except TimeoutError as error:
            raise DeadlineExceeded(f"cannot wait longer: no answer from {self._url} in {timeout_s:g} s") from error
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ManagerUnavailable(f"cannot reach the management API at {self._url}: {why}", "is it up?") from error
        if answer.is_error:
            raise _error(answer)
        return answer


def _path(agent_id: str, part: str = "") -> str:
    if not is_agent_id(agent_id):  # it would become part of a path
        raise InvalidRequest(f"cannot ask about {agent_id[:80]!r}: no agent can have this id")
    return f"/api/v1/agents/{agent_id}{part}"


def _read(answer: httpx2.Response, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise OpmasError(f"cannot understand the answer to {answer.request.url.path}: is it OPMAS?") from error


def _error(answer: httpx2.Response) -> OpmasError:
    """Make the exception that an answer describes: a response's `error`, or the API's own shape."""
    try:
        body = answer.json()
        if isinstance(body["error"], dict):
            return error_of(ErrorBody.model_validate(body["error"]))
        code = _CODES.get(body["error"], body["error"])
        return error_of(ErrorBody(code=code, message=body["message"], hint=body.get("hint") or ""))
    except (ValueError, KeyError, TypeError):
        return OpmasError(f"cannot use the answer {answer.status_code} of {answer.request.url}: is it OPMAS?")


# What only HTTP knows, in the words of the wire.
_CODES = {
    "unauthenticated": "permission_denied",
    "too_large": "invalid_request",
    "method_not_allowed": "invalid_request",
}
