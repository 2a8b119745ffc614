"""Whether there is news, asked once for all who want to know.

Five hundred readers who follow one agent are one question, asked while at least one of them is there. Only that there
is news is shared; what it is, each reader asks from where it stands.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import structlog

from opmas.wire.errors import OpmasError

logger = structlog.get_logger(__name__)

# Between two looks: at first, and in the end while nothing happens.
_SOON_S, _LATE_S = 0.25, 1.0

Look = Callable[[], Awaitable[bool]]


class Watch:
    """One question with those who follow its answers; `version` grows whenever there is news."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._news = asyncio.Event()
        self.followers = 0
        self.version = 0

    def announce(self) -> None:
        """Wake all who wait."""
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def changed(self, since: int, timeout_s: float) -> bool:
        """Wait for news after version `since`; False when there was none in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version == since:
                    await self._news.wait()
        return self.version != since

    async def run(self) -> None:
        """Look for ever. The first look is always news: something may have happened since its follower asked."""
        pause = _SOON_S
        while True:
            try:
                news = await self._look() or not self.version
            except OpmasError as error:  # the manager restarts, or NATS does: whoever follows sees that for itself
                logger.debug("cannot look for news", reason=error.message)
                news = False
            if news:
                self.announce()
            pause = _SOON_S if news else min(_LATE_S, pause * 2)
            await asyncio.sleep(pause)


class Watches:
    """What is being followed now, by topic."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let watches begin; all end with the block."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield
            finally:
                for task in self._looking.values():
                    task.cancel()

    @contextlib.contextmanager
    def followed(self, topic: str, look: Look) -> Iterator[Watch]:
        """Have `look` called again and again while anyone follows `topic`."""
        watch = self._watches.get(topic) or self._begin(topic, look)
        watch.followers += 1
        try:
            yield watch
        finally:
            watch.followers -= 1
            if not watch.followers:
                del self._watches[topic]
                self._looking.pop(topic).cancel()

    def _begin(self, topic: str, look: Look) -> Watch:
        assert self._tasks is not None, "followed outside `running`"  # noqa: S101 - the lifespan encloses every request
        watch = self._watches[topic] = Watch(look)
        self._looking[topic] = self._tasks.create_task(watch.run(), name=f"look for news of {topic}")
        return watch

    def wake(self) -> None:
        """Wake everyone who waits for news of anything."""
        for watch in self._watches.values():
            watch.announce()
