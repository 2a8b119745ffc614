"""Server-sent events: how long a stream lives, how many there may be, and that a slow reader costs one answer's memory.

A stream is pulled, never pushed: its source is asked again only when the reader has taken what came before. While
nobody reads, nothing piles up.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

import structlog
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from management_api.watches import Look, Watch, Watches
from opmas.wire.errors import DatabaseUnavailable, InvalidRequest, ManagerUnavailable, OpmasError

logger = structlog.get_logger(__name__)

EVENT_STREAM = "text/event-stream"

# Proxies give up on silent connections after 30 or 60 seconds.
_PING_S = 15.0
# While the manager or its database is away: how soon it is worth asking again.
_RETRY_S = 1.0
# A reader that takes nothing for so long is as good as gone.
_TAKEN_WITHIN_S = 60.0
# An answer of more frames than this may have been cut to fit into a message: there may be more at once.
_FEW = 100

# Browsers come back by themselves; this tells them after how many milliseconds.
_GREETING = format_sse_event(retry=1000)
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class TooManyStreams(OpmasError):
    """As many streams are open as may be."""

    code, status = "too_many_streams", 503


class EndOfStream(BaseModel):
    """The data of the event `end`, which is the last: why it is."""

    code: str
    message: str


class Source(Protocol):
    """What a stream tells."""

    @property
    def topic(self) -> str:
        """What it is about; streams of one topic share a watch."""
        ...

    @property
    def look(self) -> Look:
        """Ask whether there is news of the topic."""
        ...

    async def more(self) -> list[bytes]:
        """Return the frames that are new since the last call. Raises what the manager answers."""
        ...


class Streams:
    """Every open stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._watches = Watches()
        self._stopping = False
        self._stops: list[Callable[[], None]] = []
        self.open = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let streams live; those that are left end with the block."""
        async with self._watches.running():
            yield

    def stop(self) -> None:
        """End all streams: a server that waits for its connections to close would wait for ever."""
        self._stopping = True
        self._watches.wake()
        for end in self._stops:
            end()

    def on_stop(self, end: Callable[[], None]) -> None:
        """Have `end` called when all streams are to end: for what `carry` carries."""
        self._stops.append(end)

    async def start(self, source: Source) -> "EventStream":
        """Return the response; asks once before, so that what is wrong is an HTTP error and not a broken stream."""
        self.require_room()
        return EventStream(self, self._frames(source, await source.more()))

    def require_room(self) -> None:
        """Raise `TooManyStreams` unless one more may begin now."""
        if self.open >= self._limit or self._stopping:
            raise TooManyStreams(
                f"cannot stream: {self.open} streams are open, or the API is stopping",
                "try again later, raise service.max_streams, or ask without streaming",
            )

    def carry(self, frames: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None) -> "EventStream":
        """Return the response that carries `frames`, which end by themselves when the API stops."""
        self.require_room()
        return EventStream(self, _greeted(frames), headers)

    async def _frames(self, source: Source, first: list[bytes]) -> AsyncGenerator[bytes, None]:
        yield _GREETING
        for frame in first:
            yield frame
        with self._watches.followed(source.topic, source.look) as watch:
            async with aclosing(self._following(source, watch)) as frames:
                async for frame in frames:
                    yield frame

    async def _following(self, source: Source, watch: Watch) -> AsyncGenerator[bytes, None]:
        while not self._stopping:
            seen, patience = watch.version, _PING_S
            frames: list[bytes] = []
            try:
                frames = await source.more()
            except (ManagerUnavailable, DatabaseUnavailable):
                patience = _RETRY_S  # a stream outlives restarts: it goes on where it was
            except OpmasError as error:
                yield _ending(error.code, error.message)
                return
            for frame in frames:
                yield frame
            if len(frames) <= _FEW and not self._stopping and not await watch.changed(seen, patience):
                yield KEEPALIVE_COMMENT
        yield _ending("shutting_down", "the API is stopping")


async def _greeted(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield _GREETING
    async with aclosing(frames):
        async for frame in frames:
            yield frame


def position(last_event_id: str | None) -> int | None:
    """Read a `Last-Event-ID` that is a number; None when there is none. Raises `InvalidRequest`."""
    if not last_event_id:
        return None
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
        raise InvalidRequest(
            f"cannot continue after {last_event_id[:40]!r}",
            "send the id of an earlier event as Last-Event-ID, or none",
        )
    return int(last_event_id)


def prefers_stream(accept: str) -> bool:
    """Say whether server-sent events are what an `Accept` header likes best; of equals, the first named."""
    liked = [(_quality(part), part.partition(";")[0].strip().lower()) for part in accept.split(",")]
    quality, best = max(liked, key=lambda kind: kind[0])
    return best == EVENT_STREAM and quality > 0


def _quality(media_type: str) -> float:
    found = re.search(r";\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", media_type)
    return float(found[1]) if found else 1.0


def _ending(code: str, message: str) -> bytes:
    return format_sse_event(event="end", data_str=EndOfStream(code=code, message=message).model_dump_json())


class EventStream(StreamingResponse):
    """The response that carries one stream."""

    media_type = EVENT_STREAM

    def __init__(
        self, streams: Streams, frames: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(frames, headers={**_HEADERS, **(headers or {})})
        self._streams = streams
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the stream or its reader has ended."""
        self._streams.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1

    async def stream_response(self, send: Send) -> None:
        """Send frame by frame, each when the one before was taken."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._frames) as frames:
            try:
                async for frame in frames:
                    async with asyncio.timeout(_TAKEN_WITHIN_S):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
            except TimeoutError:
                logger.info("dropped a reader that takes nothing", seconds=_TAKEN_WITHIN_S)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
