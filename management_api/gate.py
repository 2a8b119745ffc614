"""What every request passes before its route: a correlation id, a line in the log, and the scales.

Pure ASGI, around FastAPI; between the two stands the door (`auth.door`).
"""

import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from management_api.errors import error_response
from opmas.bus import correlated
from opmas.wire.subjects import CORRELATION_HEADER

_IN_LOG = "its log has the traceback under this correlationId"

# Probes come every few seconds for ever.
_PROBED = frozenset({"/health", "/readyz", "/ready"})

logger = structlog.get_logger(__name__)


class Correlation:
    """Names a request by the caller's `x-correlation-id` or a new one, echoes it, and logs how the request ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with correlated(Headers(scope=scope).get(CORRELATION_HEADER)) as identity:
            await self._handle(scope, receive, send, identity)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        started, status = time.monotonic(), 0

        async def echo(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[CORRELATION_HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive, echo)
        except Exception:  # the edge of an HTTP request: whatever was not foreseen is answered, and logged under its id
            logger.exception("request failed", path=scope["path"][:256])
            if not status:
                await error_response(500, "cannot answer: the API failed", hint=_IN_LOG)(scope, receive, echo)
        ms = round((time.monotonic() - started) * 1000, 1)
        # Without the query: it may carry what a caller searches for.
        tell = logger.debug if scope["path"] in _PROBED else logger.info
        tell("request", method=scope["method"], path=scope["path"][:256], status=status, ms=ms)


class Scales:
    """Refuses a body of more bytes than its path may have: at once if it announces them, else when they have come.

    FastAPI's own limit stands outside all middleware and answers in plain text, without a correlation id.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, announced = self._limit(scope["path"]), Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            await error_response(413, _too_large(limit))(scope, receive, send)
            return
        weight = 0

        async def weighed() -> Message:
            nonlocal weight
            message = await receive()
            weight += len(message.get("body", b""))
            if weight > limit:
                raise HTTPException(413, _too_large(limit))  # FastAPI, which is reading, hands it to our error handler
            return message

        await self._app(scope, weighed, send)


def _too_large(limit: int) -> str:
    return f"cannot take this body: it has more than {limit >> 10} KB"
