"""Verdicts on silence: when it counts, what it amounts to, and when it is our own fault."""

from dataclasses import replace

from agent_manager.lifecycle import Event, Phase
from agent_manager.liveness import Pulse, verdict

# Launched and last heard at 1000; beats every 5 s, may be silent for 60, must be ready after 30.
PULSE = Pulse(
    phase=Phase.RUNNING,
    launched_mono=1000.0,
    beat_mono=1000.0,
    beats=True,
    interval_s=5.0,
    timeout_s=60.0,
    start_timeout_s=30.0,
    restart_on_hang=True,
)
LONG_AGO = 1.0


def test_silence_is_judged_by_phase_and_length() -> None:
    cases = [
        (Phase.RUNNING, 60, None),
        (Phase.RUNNING, 61, Event.SILENCE),
        (Phase.SILENT, 61, None),
        (Phase.SILENT, 120, None),
        (Phase.SILENT, 121, Event.HANG),
        (Phase.STARTING, 30, None),
        (Phase.STARTING, 31, Event.HANG),
        (Phase.STOPPING, 1000, None),
        (Phase.WAITING, 1000, None),
        (Phase.IDLE, 1000, None),
    ]

    found = [verdict(replace(PULSE, phase=phase), 1000.0 + after_s, LONG_AGO) for phase, after_s, _ in cases]

    assert found == [event for _, _, event in cases]


def test_one_who_is_to_be_left_alone_stays_silent() -> None:
    pulse = replace(PULSE, phase=Phase.SILENT, restart_on_hang=False)

    assert verdict(pulse, 5000.0, LONG_AGO) is None


def test_one_who_does_not_beat_is_never_silent() -> None:
    assert verdict(replace(PULSE, beats=False), 5000.0, LONG_AGO) is None


def test_without_a_bus_there_is_no_verdict() -> None:
    assert verdict(PULSE, 5000.0, None) is None


def test_after_an_outage_everybody_has_an_interval_and_then_the_whole_timeout_to_be_heard() -> None:
    back = 4000.0

    assert verdict(PULSE, back + 5, back) is None
    assert verdict(PULSE, back + 60, back) is None
    assert verdict(PULSE, back + 61, back) is Event.SILENCE
    assert verdict(replace(PULSE, phase=Phase.SILENT), back + 61, back) is None
    assert verdict(replace(PULSE, phase=Phase.STARTING), back + 30, back) is None
    assert verdict(replace(PULSE, phase=Phase.STARTING), back + 31, back) is Event.HANG


def test_a_short_timeout_still_waits_until_everybody_can_have_come_back_and_beaten_once() -> None:
    hasty = replace(PULSE, interval_s=5.0, timeout_s=1.0)

    assert verdict(hasty, 4009.0, 4000.0) is None  # 5 s to connect again, 5 s to the next heartbeat
    assert verdict(hasty, 4011.0, 4000.0) is Event.SILENCE
