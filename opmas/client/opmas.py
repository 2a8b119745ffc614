"""`OpmasClient`: one connection to one API, and every call there is."""

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack

from opmas.client.breaker import Breaker, CircuitState
from opmas.client.connection import CallOptions, Connection
from opmas.client.management import ManagementCalls
from opmas.client.retrying import Retrying
from opmas.client.runs import RunCalls
from opmas.client.sessions import SessionCalls
from opmas.client.settings import ClientSettings
from opmas.wire.errors import OpmasError

# Who asks whether a server is well does not want to wait for it.
HEALTH_S = 5.0


@dataclass(frozen=True)
class ServiceHealth:
    """How the API is, and what this client does about it."""

    healthy: bool
    status: str
    """What the API says of itself, `ok` or `degraded`; `unreachable` when it says nothing."""
    circuit_state: CircuitState
    response_time_ms: int


class OpmasClient(RunCalls, SessionCalls, ManagementCalls):
    """A connection to one management API; `async with` closes it.

    What is not given comes from the environment: `OPMAS_URL` or `AGENTOS_URL`, `OPMAS_TOKEN`, `AGENTOS_TIMEOUT_MS`
    (60,000, of each attempt) and `AGENTOS_RETRY_ATTEMPTS` (3). Calls about runs, sessions and files are tried again
    after 1, 2 and 4 seconds, behind a circuit breaker; a call about agents is one request, for its caller to repeat.
    Every call takes `workspace_id`, `user_id`, `token` and `correlation_id` by name, above what the client has.

    Raises what `opmas.client.errors` lists, all of it `OpmasError`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        workspace_id: str = "",
        user_id: str = "",
        timeout_s: float | None = None,
        retries: int | None = None,
    ) -> None:
        settings = ClientSettings.of(url, token, timeout_s, retries, workspace_id=workspace_id, user_id=user_id)
        self._api = Connection(settings)
        self._breaker = Breaker()
        self._retrying = Retrying(self._api, self._breaker, settings.retries)

    def __repr__(self) -> str:
        return f"OpmasClient({self._api.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used again."""
        await self._api.close()

    async def check_health(self, **options: Unpack[CallOptions]) -> ServiceHealth:
        """Ask the API how it is, once and for 5 seconds at most; never raises for what it finds."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(HEALTH_S):
                said = (await self._api.exchange("GET", "/health", options=options)).json()
            status = str(said["status"])
        except (OpmasError, TimeoutError, ValueError, KeyError, TypeError):  # what it says is no word of health
            status = "unreachable"
        taken_ms = round((time.monotonic() - began) * 1000)
        return ServiceHealth(status == "ok", status, self._breaker.state, taken_ms)
