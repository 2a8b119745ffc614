"""The lines and our findings, in order, in one JetStream stream: what the sentinel remembers over a crash.

Lines published while the agent is down are in it. So are the findings: nats-server delivers and records a finding in
one act, so whoever reads the record knows what was said, even if we were killed saying it.
"""

from typing import Any

from finding import SUBJECT
from nats.aio.msg import Msg
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from opmas.wire.errors import PermissionDenied

LINES = "logs.>"

_BATCH = 500
_PATIENCE_S = 0.2  # how long one pull waits for more; what waits for a new line is the caller
_UNUSED_S = 60.0  # after this the server forgets a reader that has gone
_LARGEST = 256 * 1024 * 1024  # beyond it the oldest lines go


class Record:
    """The stream called `name`, read from its beginning and then on."""

    def __init__(self, jetstream: JetStreamContext, name: str) -> None:
        self._jetstream = jetstream
        self._name = name
        self._position = 0
        self._last_at_start = 0
        self._reader: JetStreamContext.PullSubscription | None = None
        self.caught_up = False

    async def open(self, window_s: float) -> None:
        """Make the stream, or use the one there is. Raises `PermissionDenied`."""
        try:
            info = await self._stream(window_s)
        except (NatsTimeout, Error) as error:  # what may not be asked is not answered
            raise PermissionDenied(
                f"cannot keep lines in the JetStream stream {self._name!r}: {error!r}",
                f"Add {self._name} to permissions.streams in the manager's settings, or set `durable: false`.",
            ) from error
        self._last_at_start = info.state.last_seq
        self.caught_up = info.state.messages == 0

    async def _stream(self, window_s: float) -> StreamInfo:
        config = StreamConfig(
            name=self._name,
            subjects=[LINES, SUBJECT],
            max_age=window_s,
            max_bytes=_LARGEST,
            storage=StorageType.FILE,
        )
        try:
            await self._jetstream.stream_info(self._name)
        except NotFoundError:
            return await self._jetstream.add_stream(config)
        return await self._jetstream.update_stream(config)

    async def publish(self, finding: bytes, message_id: str) -> None:
        """Publish a finding and return when it is recorded."""
        await self._jetstream.publish(SUBJECT, finding, headers={"Nats-Msg-Id": message_id})

    async def read(self) -> list[Msg]:
        """Return what comes next, nothing when there is nothing new; `caught_up` once all that was there is read."""
        if self._reader is None:
            self._reader = await self._make_reader()
        try:
            batch = await self._reader.fetch(_BATCH, timeout=_PATIENCE_S)
        except NatsTimeout:
            await self._check_reader()
            return []
        return [msg for msg in batch if self._is_next(msg)]

    def _is_next(self, msg: Msg) -> bool:
        about = msg.metadata
        if about.sequence.stream <= self._position:
            return False
        self._position = about.sequence.stream
        self.caught_up |= self._position >= self._last_at_start or about.num_pending == 0
        return True

    async def _check_reader(self) -> None:
        # A reader that nats-server lost in a restart looks like one that has nothing to read.
        info = await self._jetstream.stream_info(self._name)
        if info.state.last_seq > self._position:
            await self.renew()

    async def renew(self) -> None:
        """Read on with a new reader."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.unsubscribe()

    async def _make_reader(self) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._position + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_UNUSED_S,
            mem_storage=True,
        )
        made = await self._jetstream.add_consumer(self._name, config)
        return await self._jetstream.pull_subscribe_bind(made.name, self._name)


def time_of(msg: Msg) -> float:
    """Tell when the server recorded `msg`, in unix seconds."""
    moment: Any = msg.metadata.timestamp
    return float(moment.timestamp())
