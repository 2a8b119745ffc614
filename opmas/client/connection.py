"""One connection to a management API: a request, its deadline, and the error that an answer stands for."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from opmas.bus import correlation_id
from opmas.wire.errors import DeadlineExceeded, ErrorBody, InvalidRequest, ManagerUnavailable, OpmasError, error_of
from opmas.wire.ids import is_agent_id
from opmas.wire.params import Params
from opmas.wire.subjects import CORRELATION_HEADER

ANSWER_S = 10.0
# The API says something at least every 15 s; thrice that is silence.
_STREAM = httpx2.Timeout(ANSWER_S, read=45.0)

Model = TypeVar("Model", bound=BaseModel)


class Connection:
    """Requests to one URL under one token, each with a deadline. Raises `opmas.wire.errors`, nothing of HTTP."""

    def __init__(self, url: str, token: str, *, timeout_s: float = ANSWER_S) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        # The deadline is ours (see exchange): httpx2's own counts anew with every byte that arrives.
        self._http = httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=None, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(
        self, path: str, model: type[Model], params: Params | None = None, more: Mapping[str, str] | None = None
    ) -> Model:
        """Fetch one document."""
        return read(await self.exchange("GET", path, params=given(params) | dict(more or {})), model)

    async def exchange(self, method: str, path: str, *, more_s: float = 0.0, **request: Any) -> httpx2.Response:
        """Send a request and return its answer; `more_s` is what the API itself may take on top."""
        timeout_s = self._timeout_s + more_s
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.request(method, path, headers=_headers(), **request)
        except TimeoutError as error:
            raise DeadlineExceeded(f"cannot wait longer: no answer from {self.url} in {timeout_s:g} s") from error
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from error
        if answer.is_error:
            raise error_in(answer)
        return answer

    def stream(
        self, path: str, params: Mapping[str, str], last_id: str
    ) -> AbstractAsyncContextManager[httpx2.EventSource]:
        """Open a stream of server-sent events after the one of id `last_id`."""
        headers = _headers() | ({"Last-Event-ID": last_id} if last_id else {})
        return self._http.sse(path, params=dict(params), headers=headers, timeout=_STREAM)

    def unreachable(self, error: httpx2.HTTPError) -> ManagerUnavailable:
        """Explain that nobody answers."""
        why = str(error) or type(error).__name__
        return ManagerUnavailable(f"cannot reach the management API at {self.url}: {why}", "is it up?")


def _headers() -> dict[str, str]:
    identity = correlation_id()
    return {CORRELATION_HEADER: identity} if identity else {}


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


def error_in(answer: httpx2.Response) -> OpmasError:
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
