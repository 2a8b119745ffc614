"""How an invocation is to be answered, and the short way of plain ones to their route.

What it asks of an agent is the contract's (`opmas.wire.invocation`); what becomes of it is the route's business.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Header, Query, Request
from fastapi.responses import Response as HttpResponse
from fastapi.routing import APIRoute
from pydantic import ConfigDict, JsonValue, StrictBool, ValidationError
from starlette.requests import ClientDisconnect

from management_api.auth.principal import caller_of
from management_api.runs import Runs
from management_api.streams import Streams, prefers_stream
from opmas.wire.invocation import InvokeRequest
from opmas.wire.subjects import CORRELATION_HEADER

# A caller who can wait longer than this is better served by a stream: proxies in between are less patient.
_LONGEST_WAIT_S = 300.0
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)
# As long as the id in the header may be.
_CORRELATION_LENGTH = 128
_KEY_LENGTH, _KEY = 255, r"^[\x20-\x7e]+$"

_INVOCATION: dict[str, JsonValue] = {
    "message": "say hello",
    "params": {"tone": "friendly"},
    "sessionId": "s1",
    "userId": "ann",
}


class Invocation(InvokeRequest):
    """What an agent is asked; an unknown or missing `sessionId` begins a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [_INVOCATION]})

    stream: StrictBool = False


class Manner:
    """Who asks, and how they are to be answered: at once, when the run has ended or waits for a human, or as a stream.

    One dependency where others take several: each costs the busiest route as much as reading its body.
    """

    def __init__(self, request: Request, wait_s: float, key: str | None) -> None:
        self.caller = caller_of(request)
        self.runs: Runs = request.app.state.runs
        self.streams: Streams = request.app.state.streams
        self.streaming = prefers_stream(request.headers.get("accept", ""))
        self.key = key
        self.wait_s = wait_s
        self._correlation_id = request.headers.get(CORRELATION_HEADER, "")

    def correlation_id(self, body: InvokeRequest) -> str:
        """Return the id that the caller gave the request; empty if none."""
        named = body.metadata.get("correlationId")
        return (self._correlation_id or (named if isinstance(named, str) else ""))[:_CORRELATION_LENGTH]


async def manner_of(  # a coroutine function, and no class: FastAPI would call that in a thread
    request: Request,
    wait: Annotated[float | None, Query(ge=0, description="As `Prefer: wait=`, in seconds.")] = None,
    prefer: Annotated[
        str | None,
        Header(description="`wait=SECONDS` (300 at most): answer when the run has ended."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=_KEY_LENGTH,
            pattern=_KEY,
            description="Of one's own choice; the same key and body again are answered with the same run.",
        ),
    ] = None,
) -> Manner:
    """Read from the request how it is to be answered."""
    return Manner(request, _wait(wait, prefer), idempotency_key)


def _wait(asked: float | None, prefer: str | None) -> float:
    preferred = _WAIT.search(prefer or "")
    return min(asked if asked is not None else float(preferred[1]) if preferred else 0.0, _LONGEST_WAIT_S)


async def _plain(request: Request) -> tuple[Manner, Invocation] | None:
    """Read a request that is right and without anything unusual; None for any other."""
    headers = request.headers
    key = headers.get("idempotency-key")
    if request.scope["query_string"] or headers.get("content-type") != "application/json":
        return None
    if key is not None and (len(key) > _KEY_LENGTH or not re.fullmatch(_KEY, key)):
        return None
    try:
        body = Invocation.model_validate_json(await request.body())
    except (ValidationError, ClientDisconnect):
        return None
    return Manner(request, _wait(None, headers.get("prefer")), key), body


class InvocationRoute(APIRoute):
    """The route of invocations, the busiest: reads plain ones itself.

    FastAPI, which reads each parameter of each request as its annotation says, takes longer for that than the route for
    all the rest. What is unusual or wrong goes its way, and is explained as everywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, HttpResponse]]:
        """Return what answers a request."""
        thorough = super().get_route_handler()

        async def handle(request: Request) -> HttpResponse:
            read = await _plain(request)
            if read is None:
                return await thorough(request)
            for required in self.dependencies:  # the scope
                assert required.dependency is not None  # noqa: S101 - `requires` has given it one
                await required.dependency(request)
            answer: HttpResponse = await self.endpoint(request.path_params["agent_id"], *read)
            return answer

        return handle
