"""Port 7777, where existing clients of the run contract call: a switch before the application, by the port called.

`/agents/{id}/runs…` goes on as `/api/v1/agents/{id}/runs…`, and what begins with `/api/v1/` as it is; `/health` and
`/ready` are answered here, to anybody.
"""

import re
from datetime import datetime

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from management_api.errors import error_response
from management_api.fleet import Fleet
from management_api.health import STARTED_AT, registered_agents
from management_api.store import ApiStore
from opmas import __version__
from opmas.wire.errors import DatabaseUnavailable

_PREFIX = "/api/v1"

_RUNS = re.compile(r"/agents/[^/]+/runs(/|$)")


class Alive(BaseModel):
    """The service lives."""

    status: str = "ok"
    version: str = __version__
    instantiated_at: datetime = STARTED_AT
    registered_agents: int


class Ready(BaseModel):
    """Whether runs are accepted now: that takes the database and NATS; `reason` names what is missing."""

    ready: bool
    version: str = __version__
    reason: str | None = None


class Probes:
    """What this port's probes ask."""

    def __init__(self, fleet: Fleet, store: ApiStore) -> None:
        self._fleet = fleet
        self._store = store

    async def answer(self, path: str) -> Response | None:
        """Answer a probe; None for any other path."""
        if path == "/health":
            return _json(Alive(registered_agents=await registered_agents(self._fleet)))
        if path == "/ready":
            missing = await self._missing()
            return _json(Ready(ready=missing is None, reason=missing), 200 if missing is None else 503)
        return None

    async def _missing(self) -> str | None:
        if not self._fleet.is_connected:
            return "there is no connection to NATS"
        try:
            await self._store.ping()
        except DatabaseUnavailable as error:
            return error.message
        return None


class Switch:
    """Shows callers of `port` the run contract, and everybody else the application as it is."""

    def __init__(self, app: ASGIApp, port: int | None, probes: Probes) -> None:
        self._app = app
        self._port = port
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._port is None or (scope.get("server") or ("", 0))[1] != self._port:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path.startswith(f"{_PREFIX}/"):
            await self._app(scope, receive, send)
        elif _RUNS.match(path):
            full = {"path": _PREFIX + path, "raw_path": _PREFIX.encode() + scope.get("raw_path", b"")}
            await self._app({**scope, **full}, receive, send)
        else:
            probed = await self._probes.answer(path) if scope["method"] in {"GET", "HEAD"} else None
            answer = probed or error_response(404, "Not Found", hint="on this port: /agents/{id}/runs, /health, /ready")
            await answer(scope, receive, send)


def _json(body: BaseModel, status: int = 200) -> JSONResponse:
    return JSONResponse(body.model_dump(mode="json", exclude_none=True), status)
