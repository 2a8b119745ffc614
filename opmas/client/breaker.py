"""The circuit breaker: who has failed five times in a row is left alone for half a minute, then tried with one call.

A refusal (4xx) is an answer, so it counts as a success. A call that its caller gave up says nothing either way.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from opmas.client.errors import CircuitOpen
from opmas.wire.errors import OpmasError

FAILURES = 5
OPEN_S = 30.0


class CircuitState(StrEnum):
    """Whether calls go through: all, none, or one that finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts failures in a row; stops calls while there are too many. For one thread, as an event loop is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def state(self) -> CircuitState:
        """What would become of a call now."""
        if self._failures < FAILURES:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._clock() < self._open_until else CircuitState.HALF_OPEN

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused, for whatever time."""
        return self.state is CircuitState.OPEN or (self.state is CircuitState.HALF_OPEN and self._probing)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Make one attempt inside; an error is judged and goes on. Raises `CircuitOpen` when none may be made."""
        if self.is_open:
            raise self._refusal()
        probing = self._probing = self.state is CircuitState.HALF_OPEN
        try:
            yield
        except OpmasError as error:
            self._count(failed=is_failure(error))
            raise
        else:
            self._count(failed=False)
        finally:
            if probing:
                self._probing = False

    def _count(self, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= FAILURES:
            self._open_until = self._clock() + OPEN_S

    def _refusal(self) -> CircuitOpen:
        left = max(self._open_until - self._clock(), 0.0)
        when = f"{left:.0f} s left" if left else "one call is finding out whether it is back"
        error = CircuitOpen(f"cannot call: {FAILURES} calls in a row have failed ({when})", "try again then")
        error.retry_after_s = left
        return error


def is_failure(error: OpmasError) -> bool:
    """Say whether an error means that the other side is not well."""
    return error.status >= 500
