"""Since when heartbeats could have arrived: NATS connected, and this process not paused."""

import time

from opmas.bus import Bus


class BusHealth:
    """Watched by the liveness chore; `good_since` is monotonic seconds, None while nothing can arrive."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._interrupted_at = 0.0

    def attach(self, bus: Bus) -> None:
        """Watch this connection."""
        self._bus = bus

    def interrupted(self) -> None:
        """This process was paused: what it heard before proves nothing now."""
        self._interrupted_at = time.monotonic()

    @property
    def connected(self) -> bool:
        """Whether NATS can be reached."""
        return self._bus is not None and self._bus.is_connected

    @property
    def good_since(self) -> float | None:
        """Since when everything has been good."""
        if self._bus is None or self._bus.good_since is None:
            return None
        return max(self._bus.good_since, self._interrupted_at)
