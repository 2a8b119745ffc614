"""The door: every request is either open to all, or has a caller whom its credentials prove.

Pure ASGI, and before FastAPI, which reads a body before it looks at dependencies: a stranger's megabyte is refused
unread. What the caller may do is the routes' to ask (`requires`).
"""

from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from management_api.auth.principal import Principal, acting
from management_api.auth.rates import Rates
from management_api.errors import error_response, retry_headers
from opmas.wire.errors import OpmasError

# Whether the service lives, and what it can do, may be asked by anyone.
OPEN = frozenset({"/health", "/readyz", "/openapi.json", "/docs"})
OPEN_BELOW = ("/docs/",)


class Unauthenticated(OpmasError):
    """The credentials are missing, or prove nobody."""

    code, status = "unauthenticated", 401


class Identify(Protocol):
    """Finds out who calls."""

    async def __call__(self, headers: Headers) -> Principal:
        """Return the caller; raises `Unauthenticated`, `PermissionDenied` or `DatabaseUnavailable`."""
        ...


def is_open(path: str) -> bool:
    """Say whether a path needs no caller."""
    return path in OPEN or path.startswith(OPEN_BELOW)


class Door:
    """Lets in whom `identify` knows, as often as `rates` allow."""

    def __init__(self, app: ASGIApp, identify: Identify, rates: Rates) -> None:
        self._app = app
        self._identify = identify
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, its caller at hand as `request.state.caller`, or answer why not."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._identify(Headers(scope=scope))
        except OpmasError as error:
            headers = retry_headers(error.status)
            if isinstance(error, Unauthenticated):
                headers["WWW-Authenticate"] = 'Bearer realm="opmas"'
            refusal = error_response(error.status, error.message, error.code, error.hint, headers)
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        acting.set(caller.title)  # each request is handled in a task of its own
        await self._within_limits(caller, scope, receive, send)

    async def _within_limits(self, caller: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        allowance = await self._rates.take(caller)
        headers = allowance.headers() if allowance else {}
        if allowance and allowance.exceeded:
            message = f"cannot answer so many requests: {allowance.limit} are allowed in the time"
            hint = f"ask again in {allowance.reset_s} s; see rate_limit in config/management_api.yaml"
            await error_response(429, message, "rate_limited", hint, headers)(scope, receive, send)
            return

        async def announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, announced)
