"""The circuit breaker by itself, on a clock that the test turns."""

import asyncio

import pytest

from opmas.client.breaker import FAILURES, OPEN_S, Breaker, CircuitState
from opmas.client.errors import CircuitOpen
from opmas.wire.errors import InternalServerError, ManagerUnavailable, OpmasError, RateLimited, RunNotFound


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def attempt(breaker: Breaker, error: BaseException | None = None) -> None:
    """Make one attempt that ends so."""
    try:
        with breaker.attempt():
            if error is not None:
                raise error
    except CircuitOpen:
        raise
    except (OpmasError, asyncio.CancelledError):
        pass


def fail(breaker: Breaker, times: int = FAILURES) -> None:
    for _ in range(times):
        attempt(breaker, ManagerUnavailable("down"))


def test_five_failures_in_a_row_open_it_and_not_four(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, 1)
    assert breaker.state is CircuitState.OPEN


def test_an_open_one_lets_nothing_through_and_says_how_long(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 12

    with pytest.raises(CircuitOpen, match="18 s left") as caught:
        attempt(breaker)
    assert (caught.value.status, caught.value.retry_after_s) == (503, OPEN_S - 12)


@pytest.mark.parametrize("error", [None, RunNotFound("no"), RateLimited("later")])
def test_an_answer_between_failures_starts_the_count_anew_and_a_refusal_is_an_answer(
    breaker: Breaker, error: OpmasError | None
) -> None:
    fail(breaker, 4)
    attempt(breaker, error)
    fail(breaker, 4)
    assert breaker.state is CircuitState.CLOSED


def test_refusals_alone_never_open_it(breaker: Breaker) -> None:
    for _ in range(20):
        attempt(breaker, RunNotFound("no"))
    assert breaker.state is CircuitState.CLOSED


def test_after_thirty_seconds_exactly_one_probe_goes_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += OPEN_S
    assert breaker.state is CircuitState.HALF_OPEN

    with breaker.attempt():
        for _ in range(20):
            with pytest.raises(CircuitOpen):
                attempt(breaker)

    assert breaker.state is CircuitState.CLOSED


def test_a_probe_that_fails_opens_it_for_another_thirty_seconds(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += OPEN_S
    attempt(breaker, InternalServerError("still"))

    clock.now += OPEN_S - 1
    assert breaker.state is CircuitState.OPEN
    clock.now += 1
    attempt(breaker)
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_that_its_caller_gives_up_leaves_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += OPEN_S
    attempt(breaker, asyncio.CancelledError())

    assert breaker.state is CircuitState.HALF_OPEN
    attempt(breaker)
    assert breaker.state is CircuitState.CLOSED
