"""Why a run is stopped before its handler has returned, and how it ends then."""

from dataclasses import dataclass

from opmas.wire.runs import RunStatus


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a stopped run ends: `reason` for programs, `error` for people."""

    status: RunStatus
    reason: str
    error: str


CANCELLED = Verdict(RunStatus.CANCELLED, "cancelled", "the run was cancelled")
STOPPING = Verdict(RunStatus.INTERRUPTED, "stopping", "the agent was stopped before the run had ended")
LOST = Verdict(RunStatus.INTERRUPTED, "lost", "the run was given to another instance")


def over_time(seconds: float) -> Verdict:
    """The handler took longer than the run may."""
    return Verdict(RunStatus.FAILED, "time_limit", f"the run took longer than its limit of {seconds:g} s")


def over_tokens(used: int, limit: int) -> Verdict:
    """The run used more tokens than it may."""
    return Verdict(RunStatus.FAILED, "token_limit", f"the run used {used} tokens, its limit is {limit}")


def over_tool_calls(limit: int) -> Verdict:
    """The run called tools more often than it may."""
    return Verdict(RunStatus.FAILED, "tool_limit", f"the run called more tools than its limit of {limit}")
