"""Calls that are worth repeating: three times, after 1, 2 and 4 seconds, unless the circuit is open; each is logged.

Only what may pass is tried again: no connection, no answer in time, 5xx and 429. The logger is `opmas.client`; every
line has the call's correlation id, and none a token.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
import stamina

from opmas.client.breaker import Breaker, is_failure
from opmas.client.connection import CallOptions, Connection
from opmas.client.errors import CircuitOpen
from opmas.wire.errors import OpmasError

# Whoever asks for more patience than this wants us to come back another day.
MOST_S = 60.0
# A minute and a half at least.
_PATIENT_RETRIES = 24

logger = logging.getLogger("opmas.client")
logger.addHandler(logging.NullHandler())  # or what nobody configured would go to stderr

T = TypeVar("T")


class Retrying:
    """Requests over one connection, behind one circuit breaker, tried again where that helps."""

    def __init__(self, connection: Connection, breaker: Breaker, retries: int) -> None:
        self._connection = connection
        self._breaker = breaker
        self._retries = retries

    async def exchange(self, method: str, path: str, options: CallOptions, **request: Any) -> httpx2.Response:
        """Send a request and return its answer, as `Connection.exchange` does."""

        async def send(identified: CallOptions) -> httpx2.Response:
            return await self._connection.exchange(method, path, options=identified, **request)

        return await self.call(f"{method} {path}", options, send)

    async def call(
        self, what: str, options: CallOptions, act: Callable[[CallOptions], Awaitable[T]], *, patient: bool = False
    ) -> T:
        """Do `act` until it succeeds, each time under the same correlation id; raises what the last try raised.

        A `patient` caller has something to lose, so it outlasts an open circuit and a restart of the API.
        """
        identity = self._connection.headers(options)["x-correlation-id"]
        options = {**options, "correlation_id": identity}
        began = time.monotonic()
        logger.info("%s: begun [%s]", what, identity)
        try:
            done = await self._persist(what, options, act, patient=patient)
        except OpmasError as error:
            error.correlation_id = identity
            logger.warning("%s: failed in %d ms: %s [%s]", what, _since(began), error.message, identity)
            raise
        logger.info("%s: succeeded in %d ms [%s]", what, _since(began), identity)
        return done

    async def _persist(
        self, what: str, options: CallOptions, act: Callable[[CallOptions], Awaitable[T]], *, patient: bool
    ) -> T:
        retries = _PATIENT_RETRIES if patient else self._retries
        number, pause_s = 0, 0.0

        def delay(error: Exception) -> bool | float:
            if not self._may_pass(error, patient=patient):
                return False
            waits_s = max(pause_s, min(getattr(error, "retry_after_s", None) or 0.0, MOST_S))
            if number <= retries:
                identity = options["correlation_id"]
                why = str(error)  # the error itself would keep its frames alive in a handler that keeps records
                logger.warning("%s: retry %d/%d in %g s: %s [%s]", what, number, retries, waits_s, why, identity)
            return waits_s

        attempts = stamina.retry_context(
            delay, attempts=retries + 1, timeout=None, wait_initial=1.0, wait_max=4.0, wait_jitter=0.0
        )
        async for attempt in attempts:
            number, pause_s = attempt.num, attempt.next_wait
            with attempt, self._breaker.attempt():
                return await act(options)
        raise AssertionError("stamina ends by an exception")

    def _may_pass(self, error: Exception, *, patient: bool) -> bool:
        if not isinstance(error, OpmasError):
            return False
        if not patient and (isinstance(error, CircuitOpen) or self._breaker.is_open):
            return False  # the next try would be refused, and this error says more
        return is_failure(error) or error.status == httpx2.codes.TOO_MANY_REQUESTS


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
