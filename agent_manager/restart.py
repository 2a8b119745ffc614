"""The restart policy: what to do about an instance that ended by itself. Pure.

The first end of an instance that was ready is answered at once; the next with 1, 2, 4 … seconds, early and late
crashes alike, until 60 seconds of health clear the record. Too many starts within the window without such health are
a crash loop.
"""

import random
from dataclasses import dataclass, field

from agent_manager.lifecycle import Event
from opmas.wire.manifest import RestartCondition
from opmas.wire.manifest.sections import Restart

# After this long in health a crash is news, not part of a series.
HEALTHY_AFTER_S = 60.0

# Spread restarts of agents that died of one cause; small enough that the delays still read as 1, 2, 4 s.
_JITTER = 0.1


@dataclass(slots=True)
class CrashRecord:
    """When (monotonic seconds) the launches of the present series were made."""

    launches: list[float] = field(default_factory=list)

    def launched(self, now: float, window_s: float) -> None:
        """Note a launch and forget those outside the window."""
        self.launches = [at for at in self.launches if now - at <= window_s]
        self.launches.append(now)

    def clear(self) -> None:
        """Start a new series: health, or an operator's word."""
        self.launches.clear()


@dataclass(frozen=True, slots=True)
class Decision:
    """The event that the end of an instance becomes, and the delay before a retry in seconds."""

    event: Event
    delay_s: float = 0.0
    reason: str = ""


def decide(policy: Restart, record: CrashRecord, *, succeeded: bool, was_ready: bool, healthy_s: float) -> Decision:
    """Say what follows when an instance ended that nobody had told to.

    `healthy_s` is how long it was ready; `succeeded` whether its exit code counts as success.
    """
    if policy.condition is RestartCondition.NEVER or (succeeded and policy.condition is RestartCondition.ON_FAILURE):
        return Decision(Event.ENDED_WELL) if succeeded else Decision(Event.ENDED_FAILED, reason="restart is `never`")
    if healthy_s >= HEALTHY_AFTER_S:
        record.clear()
    failures = len(record.launches)
    if failures >= policy.max_attempts:
        window = f"{policy.window:g} s"
        return Decision(
            Event.ENDED_FAILED, reason=f"crash_loop: {failures} starts within {window} without 60 s of health"
        )
    if failures <= 1 and was_ready:
        return Decision(Event.ENDED_RETRY)
    delay = min(policy.delay * 2 ** max(failures - 2, 0), policy.max_delay)
    return Decision(Event.ENDED_RETRY, delay_s=delay * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # no secret
