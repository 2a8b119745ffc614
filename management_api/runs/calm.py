"""Whether a silent instance may be called lost: only after a full lease in which it could have been heard.

Our own start, an outage of NATS or of the database, and a pause of our own loop silence every instance alike. Pure: the
sweeper says what it sees, clocks included.
"""


class Calm:
    """Since when nothing of ours has kept instances from being heard; leases are judged after `lease_s` of that."""

    def __init__(self, lease_s: float, at: float) -> None:
        self._lease_s = lease_s
        self._since = at
        self._last: tuple[float, float] | None = None

    def disturbed(self, at: float) -> None:
        """Begin anew: something was amiss at this monotonic time."""
        self._since = max(self._since, at)

    def tick(self, at: float, wall: float, due_s: float, connected_since: float | None) -> bool:
        """Take a look that was due `due_s` after the one before; says whether leases may be judged.

        `at` is the monotonic time, which stands still while the machine sleeps; `wall` is the clock by which leases
        run out, which may be set.
        """
        if self._last is not None:
            passed = at - self._last[0], wall - self._last[1]
            # Instances renew three times in a lease: a pause shorter than this costs none of them all.
            if max(passed) > due_s + self._lease_s / 4 or min(passed) < 0:
                self.disturbed(at)
        self._last = at, wall
        self.disturbed(at if connected_since is None else connected_since)
        return at - self._since >= self._lease_s
