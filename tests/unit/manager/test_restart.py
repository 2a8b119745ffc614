"""The restart policy: who is launched again, after how long, and when it is given up."""

import pytest

from agent_manager.lifecycle import Event
from agent_manager.restart import CrashRecord, Decision, decide
from opmas.wire.manifest import RestartCondition
from opmas.wire.manifest.sections import Restart


def policy(**fields: object) -> Restart:
    return Restart.model_validate(fields)


def crash(restart: Restart, record: CrashRecord, at: float, *, ready: bool = True, healthy_s: float = 1.0) -> Decision:
    """Launch at a time and crash."""
    record.launched(at, restart.window)
    return decide(restart, record, succeeded=False, was_ready=ready, healthy_s=healthy_s)


def series(restart: Restart, count: int, *, ready: bool = True) -> list[Decision]:
    record = CrashRecord()
    return [crash(restart, record, float(at), ready=ready) for at in range(count)]


def test_a_series_of_crashes_is_answered_at_once_then_after_1_2_4_seconds() -> None:
    decisions = series(policy(max_attempts=9), 8)

    delays = [decision.delay_s for decision in decisions]
    assert {decision.event for decision in decisions} == {Event.ENDED_RETRY}
    assert delays == pytest.approx([0, 1, 2, 4, 8, 16, 32, 60], rel=0.11)
    assert delays[7] <= 66


def test_an_instance_that_was_never_ready_is_not_launched_again_at_once() -> None:
    assert series(policy(), 1, ready=False)[0].delay_s == pytest.approx(1, rel=0.11)


def test_five_starts_in_the_window_without_a_minute_of_health_are_a_crash_loop() -> None:
    *before, last = series(policy(), 5)

    assert {decision.event for decision in before} == {Event.ENDED_RETRY}
    assert last.event is Event.ENDED_FAILED
    assert last.reason == "crash_loop: 5 starts within 600 s without 60 s of health"


def test_a_minute_of_health_begins_a_new_series() -> None:
    record, restart = CrashRecord(), policy()
    for at in range(4):
        crash(restart, record, float(at))

    assert crash(restart, record, 100.0, healthy_s=60.0) == Decision(Event.ENDED_RETRY)
    assert crash(restart, record, 101.0).event is Event.ENDED_RETRY


def test_starts_that_fell_out_of_the_window_do_not_count() -> None:
    record, restart = CrashRecord(), policy(window=10, max_attempts=3)

    decisions = [crash(restart, record, at * 8.0) for at in range(6)]

    assert {decision.event for decision in decisions} == {Event.ENDED_RETRY}


def test_an_operator_s_word_begins_a_new_series() -> None:
    record, restart = CrashRecord(), policy(max_attempts=2)
    crash(restart, record, 0.0)
    record.clear()

    assert crash(restart, record, 1.0) == Decision(Event.ENDED_RETRY)


def test_the_condition_says_which_ends_are_followed_by_a_start() -> None:
    def event_of(condition: RestartCondition, *, succeeded: bool) -> Event:
        record = CrashRecord()
        record.launched(0.0, 600)
        return decide(policy(condition=condition), record, succeeded=succeeded, was_ready=True, healthy_s=1.0).event

    assert [(c.value, event_of(c, succeeded=True), event_of(c, succeeded=False)) for c in RestartCondition] == [
        ("always", Event.ENDED_RETRY, Event.ENDED_RETRY),
        ("on-failure", Event.ENDED_WELL, Event.ENDED_RETRY),
        ("never", Event.ENDED_WELL, Event.ENDED_FAILED),
    ]
