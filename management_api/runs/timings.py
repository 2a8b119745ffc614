"""How long what takes: the run service's own clock-work, in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Leases and retention are settings; the rest is for tests to shorten."""

    lease_s: float = 30.0
    sweep_s: float = 1.0
    """Between two looks over all runs under way: how late a lost nudge is made good."""
    look_s: float = 2.0
    """Between two looks at the runs that are followed here: how late a lost notice is made good."""
    keep_alive_s: float = 15.0
    """Proxies give up on silent connections after 30 or 60."""
    fresh_s: float = 1.0
    """For so long what a manager said of an agent is believed without asking again."""
    grace_s: float = 10.0
    """What an instance gets to stop a run whose time is up, before the run is taken from it."""
    orphans_s: float = 10.0
    """Between two looks for runs of agents that were deleted."""
    forget_s: float = 3600.0
    retention_days: int = 90
    """Runs that ended so long ago are forgotten; 0 keeps them."""
