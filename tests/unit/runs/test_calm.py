"""When silence proves that an instance is lost."""

from management_api.runs.calm import Calm

LEASE = 30.0


def calm_at(at: float) -> Calm:
    calm = Calm(LEASE, at)
    calm.tick(at, 1000 + at, 1.0, at)
    return calm


def ticks(calm: Calm, start: float, end: float, *, connected: float | None = 0.0, ahead: float = 1000) -> list[bool]:
    """Tick every second."""
    seconds = range(int(start), int(end) + 1)
    return [calm.tick(float(at), ahead + at, 1.0, connected) for at in seconds]


def test_leases_are_judged_a_full_lease_after_the_start() -> None:
    assert ticks(calm_at(0), 1, 30) == [False] * 29 + [True]


def test_a_pause_of_our_own_is_followed_by_a_full_lease() -> None:
    calm = calm_at(0)
    ticks(calm, 1, 40)

    assert ticks(calm, 60, 90) == [False] * 30 + [True]


def test_a_short_delay_changes_nothing() -> None:
    calm = calm_at(0)
    ticks(calm, 1, 40)

    assert all(ticks(calm, 45, 50))


def test_a_sleep_of_the_machine_and_a_clock_that_was_set_count_as_pauses() -> None:
    for jump in (3600, -3600):
        calm = calm_at(0)
        ticks(calm, 1, 40)

        assert not any(ticks(calm, 41, 70, ahead=1000 + jump))


def test_an_outage_of_nats_or_the_database_is_followed_by_a_full_lease() -> None:
    calm = calm_at(0)
    ticks(calm, 1, 40)
    assert not any(ticks(calm, 41, 50, connected=None))
    assert ticks(calm, 51, 81, connected=51.0) == [False] * 30 + [True]

    calm.disturbed(82.0)
    assert not any(ticks(calm, 83, 100))
