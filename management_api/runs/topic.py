"""What this API knows of one run that somebody here waits for or follows: its newest events, and whether it settled.

No queue per follower: all read from one bounded tail, each from where it stands, and who has fallen behind it reads
the record.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

from management_api.store.rows import RunRow, StoredEvent
from opmas.wire.runs import RunStatus

# Of each run that is followed: what a reader may be late without asking the database.
_MAX_EVENTS, _MAX_CHARACTERS = 500, 256_000


def is_settled(run: RunRow) -> bool:
    """Say whether who waits for `run` has an answer: it has ended, or waits for a human."""
    return run.status.is_terminal or run.status is RunStatus.WAITING_CONFIRMATION


class Topic:
    """One run. `is_complete` says that no news was missed so far; `seq` is the last event known to be on record."""

    __slots__ = (
        "_news",
        "_size",
        "_tail",
        "doubt",
        "followers",
        "is_complete",
        "reading",
        "row",
        "seq",
        "until",
        "version",
    )

    def __init__(self, *, is_complete: bool, until: float) -> None:
        self.is_complete = is_complete
        self.until = until
        self.seq = 0
        self.doubt = 0
        """With this event the run may have settled: the row says."""
        self.row: RunRow | None = None
        self.version = 0
        self.followers = 0
        self.reading = asyncio.Lock()
        self._tail: deque[StoredEvent] = deque()
        self._size = 0
        self._news = asyncio.Event()

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Keep events, in order and without gap; what does not join on begins the tail anew."""
        last = self._tail[-1].seq if self._tail else 0
        new = [event for event in events if event.seq > last]
        if not new:
            return
        if self._tail and new[0].seq != last + 1:
            self._tail.clear()
            self._size = 0
        self._tail.extend(new)
        self._size += sum(len(event.json) for event in new)
        while len(self._tail) > _MAX_EVENTS or (self._size > _MAX_CHARACTERS and len(self._tail) > 1):
            self._size -= len(self._tail.popleft().json)
        self.seq = max(self.seq, new[-1].seq)

    def after(self, position: int) -> list[StoredEvent] | None:
        """Return the events after `position` that are at hand; None when there are some that only the record has."""
        if self.seq <= position:
            return []
        if not self._tail or self._tail[-1].seq <= position or self._tail[0].seq > position + 1:
            return None
        return list(islice(self._tail, position + 1 - self._tail[0].seq, None))

    def announce(self) -> None:
        """Wake all who wait for news."""
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def changed(self, since: int) -> None:
        """Wait for news after version `since`."""
        while self.version == since:
            await self._news.wait()
