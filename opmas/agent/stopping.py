"""SIGTERM and SIGINT for an instance: the first asks it to drain, the second to hurry.

Before the agent is ready there is nothing to drain: then the first one cancels the start.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# What remains for the next step after a second signal.
_HURRIED_S = 0.2


class Stopping:
    """The wish to end, and the deadlines that shrink with it. Made inside the task it may cancel."""

    def __init__(self, grace_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        # The shim kills when the grace is over; we want to have said goodbye before.
        self._grace_s = grace_s * 0.9
        self._ends_at: float | None = None
        self._patience: asyncio.Timeout | None = None
        self._hurried = False
        self.asked = False
        self.ending: asyncio.Event | None = None

    def listen(self) -> None:
        """Take over the signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)

    def close(self) -> None:
        """Give the signals back."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def ready(self, ending: asyncio.Event) -> None:
        """From now on, a signal sets `ending` instead of cancelling the start."""
        self.ending = ending

    def _signalled(self) -> None:
        if self.asked:
            self._hurry()
        elif self.ending is not None:
            self.ending.set()
        elif self._starting is not None:
            self._starting.cancel()
        self.asked = True

    def _hurry(self) -> None:
        self._hurried = True
        if self._patience is not None:
            self._patience.reschedule(self._loop.time())

    @asynccontextmanager
    async def within(self, share: float) -> AsyncIterator[None]:
        """Allow what is done inside the first `share` of the grace, counted from the first use.

        Raises `TimeoutError`.
        """
        now = self._loop.time()
        if self._ends_at is None:
            self._ends_at = now
        deadline = now + _HURRIED_S if self._hurried else self._ends_at + self._grace_s * share
        async with asyncio.timeout_at(deadline) as patience:
            self._patience = patience
            try:
                yield
            finally:
                self._patience = None
