"""One connection to a management API: a request, its deadline, and the error that an answer stands for."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, TypedDict, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel, ValidationError

from opmas.bus import correlation_id
from opmas.client.errors import error_in
from opmas.client.settings import ClientSettings
from opmas.wire.errors import DeadlineExceeded, InvalidRequest, ManagerUnavailable, OpmasError
from opmas.wire.ids import is_agent_id
from opmas.wire.params import Params
from opmas.wire.subjects import CORRELATION_HEADER

# The API says something at least every 15 s; thrice that is silence.
_STREAM = httpx2.Timeout(10.0, read=45.0)

Model = TypeVar("Model", bound=BaseModel)


class CallOptions(TypedDict, total=False):
    """What every call takes by name, above what the client was made with."""

    workspace_id: str
    user_id: str
    """Whom a run or a session is for, and whose are listed: for callers who speak for many users."""
    token: str
    correlation_id: str
    """Made when missing; it is in the API's, the agents' and this client's logs."""


class Connection:
    """Requests to one URL, each with a deadline. Raises `opmas.wire.errors`, nothing of HTTP."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        try:
            url = httpx2.URL(settings.url.rstrip("/"))
        except httpx2.InvalidURL as error:
            raise InvalidRequest(f"cannot use the URL: {error}", "it has the form http://host:port") from error
        self.url = str(url.copy_with(username=None, password=None))  # for messages
        # The deadline is ours (see exchange): httpx2's own counts anew with every byte that arrives.
        self._http = httpx2.AsyncClient(base_url=url, timeout=None, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(
        self,
        path: str,
        model: type[Model],
        params: Params | None = None,
        more: Mapping[str, str] | None = None,
        options: CallOptions | None = None,
    ) -> Model:
        """Fetch one document."""
        query = given(params) | dict(more or {})
        return read(await self.exchange("GET", path, params=query, options=options), model)

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        more_s: float = 0.0,
        options: CallOptions | None = None,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> httpx2.Response:
        """Send a request and return its answer; `more_s` is what the API itself may take on top."""
        timeout_s = self._settings.timeout_s + more_s
        sent = self.headers(options) | dict(headers or {})
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.request(method, path, headers=sent, **request)
        except TimeoutError as error:
            raise DeadlineExceeded(f"cannot wait longer: no answer from {self.url} in {timeout_s:g} s") from error
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from error
        except (ValueError, TypeError, RecursionError) as error:  # of the body, which is encoded there
            raise InvalidRequest(f"cannot send the request: it is not JSON: {error}") from error
        if answer.is_error:
            raise error_in(answer)
        return answer

    async def stream(
        self,
        stack: AsyncExitStack,
        path: str,
        params: Mapping[str, str],
        last_id: str,
        options: CallOptions | None = None,
    ) -> httpx2.EventSource:
        """Open a stream of server-sent events after the one of id `last_id`; `stack` closes it."""
        headers = self.headers(options) | ({"Last-Event-ID": last_id} if last_id else {})
        async with AsyncExitStack() as attempt:
            try:
                opening = self._http.sse(path, params=dict(params), headers=headers, timeout=_STREAM)
                source = await attempt.enter_async_context(opening)
                if source.response.is_error:
                    await source.response.aread()
                    raise error_in(source.response)
            except httpx2.HTTPError as error:
                raise self.unreachable(error) from error
            await stack.enter_async_context(attempt.pop_all())
        return source

    def unreachable(self, error: httpx2.HTTPError) -> OpmasError:
        """Explain that nobody answers."""
        if isinstance(error, httpx2.TimeoutException):
            return DeadlineExceeded(f"cannot wait longer: {self.url} is silent")
        why = str(error) or type(error).__name__
        return ManagerUnavailable(f"cannot reach the management API at {self.url}: {why}", "is it up?")

    def headers(self, options: CallOptions | None) -> dict[str, str]:
        """Say who calls, for whom, and in which course of events. Raises `InvalidRequest`."""
        options = options or {}
        told = {CORRELATION_HEADER: options.get("correlation_id") or correlation_id() or uuid4().hex}
        if token := options.get("token") or self._settings.token:
            if not (token.isascii() and token.isprintable()):  # HTTP's own complaint would repeat it
                raise InvalidRequest("cannot use the token: it has characters that no token has", "is it cut off?")
            told["Authorization"] = f"Bearer {token}"
        if workspace := options.get("workspace_id") or self._settings.workspace_id:
            told["x-workspace-id"] = workspace
        return told

    def user_id(self, options: CallOptions) -> str:
        """Tell whom a call is for."""
        return options.get("user_id") or self._settings.user_id


def given(params: Params | None) -> dict[str, Any]:
    """Return what the caller set, as it travels."""
    return params.model_dump(mode="json", exclude_unset=True, exclude_none=True) if params else {}


def agent_path(agent_id: str, part: str = "") -> str:
    """Spell the path of an agent. Raises `InvalidRequest` for an id that would lead elsewhere."""
    if not is_agent_id(agent_id):  # it would become part of a path
        raise InvalidRequest(f"cannot ask about {agent_id[:80]!r}: no agent can have this id")
    return f"/api/v1/agents/{agent_id}{part}"


def read(answer: httpx2.Response, model: type[Model]) -> Model:
    """Read a document. Raises `OpmasError` when it is not what the API answers."""
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise OpmasError(f"cannot understand the answer to {answer.request.url.path}: is it OPMAS?") from error
