"""Who has fallen silent: heartbeats against their timeouts. Pure; the loop that asks is in `chores`.

An outage of our own (NATS away, our loop paused) is not an agent's death: verdicts wait until the bus has been good for
as long as an instance may need to find it again, and a full heartbeat interval: by then everyone can have been heard.
"""

from dataclasses import dataclass

from agent_manager.lifecycle import Event, Phase

# How often verdicts are passed; a gap of more than twice this means that this process itself was paused.
TICK_S = 1.0
PAUSED_AFTER_S = 2 * TICK_S + 1.0
# The longest pause between a client's tries to connect again (`opmas.bus`).
RETURN_S = 5.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is needed to judge an instance; times in monotonic seconds."""

    phase: Phase
    launched_mono: float
    beat_mono: float
    beats: bool
    """Whether it beats at all (`heartbeat: process` does not)."""
    interval_s: float
    timeout_s: float
    start_timeout_s: float
    restart_on_hang: bool


def verdict(pulse: Pulse, now: float, good_since: float | None) -> Event | None:
    """Say what an instance's silence amounts to. `good_since`: since when the bus has been good, None if it is not."""
    if not pulse.beats or good_since is None or now - good_since <= RETURN_S + pulse.interval_s:
        return None
    if pulse.phase is Phase.STARTING:
        late = now - max(pulse.launched_mono, good_since) > pulse.start_timeout_s
        return Event.HANG if late else None
    silent_s = now - max(pulse.beat_mono, good_since)
    if pulse.phase is Phase.RUNNING and silent_s > pulse.timeout_s:
        return Event.SILENCE
    if pulse.phase is Phase.SILENT and pulse.restart_on_hang and silent_s > 2 * pulse.timeout_s:
        return Event.HANG
    return None
