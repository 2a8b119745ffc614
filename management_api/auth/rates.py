"""How much each caller may ask: requests per key and per workspace, in a window that slides.

Counted in memory by each process for itself: the limits keep one caller from crowding out the others, and are no
accounting.
"""

import math
import time
from dataclasses import dataclass

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from management_api.auth.principal import Principal
from management_api.auth.settings import RateLimitSettings


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a caller, of the narrower of the two limits; `reset_s` is when all of it is back, in seconds."""

    limit: int
    remaining: int
    reset_s: int
    exceeded: bool = False

    def headers(self) -> dict[str, str]:
        """Tell the caller."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return told | ({"Retry-After": str(self.reset_s)} if self.exceeded else {})


class Rates:
    """Counts requests."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._per_key = limits.parse(settings.per_key) if settings.per_key else None
        self._per_workspace = limits.parse(settings.per_workspace) if settings.per_workspace else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: Principal) -> Allowance | None:
        """Count one request; returns None for a caller who is not limited."""
        if not caller.limited:
            return None
        counts = []
        for limit, kind, name in (
            (self._per_key, "key", caller.key),
            (self._per_workspace, "workspace", caller.workspace),
        ):
            if limit is not None:
                counts.append(await self._count(limit, kind, name))
                if counts[-1].exceeded:
                    return counts[-1]
        return min(counts, key=lambda allowance: allowance.remaining, default=None)

    async def _count(self, limit: limits.RateLimitItem, kind: str, name: str) -> Allowance:
        granted = await self._limiter.hit(limit, kind, name)
        window = await self._limiter.get_window_stats(limit, kind, name)
        reset = max(1, math.ceil(window.reset_time - time.time()))
        return Allowance(limit.amount, max(0, int(window.remaining)), reset, exceeded=not granted)
