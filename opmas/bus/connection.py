"""The bus over NATS: one connection that comes back by itself, with credentials read afresh each time.

Handlers run in a task group of the caller's choosing; the bus owns none. What is published while there is no connection
is kept (up to 2 MB) and sent after the reconnect; a request waits for the connection within its own deadline instead.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nats import errors

from opmas.bus import correlation
from opmas.bus.client import SafeClient, next_server
from opmas.bus.credentials import CredentialsFile
from opmas.bus.delivery import Delivery, Handler, Msg
from opmas.bus.errors import BusUnavailable, NoResponders, refusal
from opmas.bus.payload import Payload, encoded, error_headers
from opmas.bus.subscription import Subscription
from opmas.wire.errors import DeadlineExceeded

if TYPE_CHECKING:
    from nats.aio.msg import Msg as NatsMsg
    from nats.js import JetStreamContext

logger = logging.getLogger(__name__)


class Bus:
    """A connection to NATS: `async with await Bus.connect(url, name="manager") as bus`.

    `outages` counts the losses of the connection; `violations` what the server refused us, which a request sees only as
    silence.
    """

    def __init__(self, url: str, on_reconnect: Callable[[], None] | None = None) -> None:
        self._servers = url.split(",")
        self._url = ",".join(_without_secrets(server) for server in self._servers)
        self._client = SafeClient()
        self._on_reconnect = on_reconnect
        self._connected = asyncio.Event()
        self._closing = False
        self._good_since: float | None = None
        self.outages = 0
        self.violations = 0

    @classmethod
    async def connect(  # noqa: PLR0913 - one keyword for each fact of a connection
        cls,
        url: str,
        *,
        name: str,
        creds: Path | None = None,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        inbox_prefix: str = "_INBOX",
        echo: bool = True,
        timeout_s: float = 10.0,
        on_reconnect: Callable[[], None] | None = None,
    ) -> Self:
        """Connect to `url` (several: separated by commas); without `echo` it never hears what it publishes itself.

        Raises `BusUnavailable` after `timeout_s`, `PermissionDenied` at once when the server refuses the credentials.
        """
        bus = cls(url, on_reconnect)
        options: dict[str, Any] = {"name": name, "inbox_prefix": inbox_prefix, "no_echo": not echo}
        options |= {"user": user, "password": password, "tls": tls}
        if creds is not None:
            file = CredentialsFile(creds)
            options |= {"user_jwt_cb": file.jwt, "signature_cb": file.sign}
        await bus._first_connect(options, timeout_s)
        return bus

    async def _first_connect(self, options: dict[str, Any], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._try_connect(options):
                    await self._client.end(politely=False)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            reason = self._client.last_error or "no answer"
            await self._client.end(politely=False)
            raise BusUnavailable(
                f"cannot connect to NATS at {self._url} within {timeout_s:g} s: {reason}",
                "Check that nats-server runs and that the address is right.",
            ) from None
        except BaseException:
            await self._client.end(politely=False)
            raise
        # Not before: with it, nats-py would try for ever over credentials that are wrong from the start.
        self._client.options["allow_reconnect"] = True
        self._is_good()

    async def _try_connect(self, options: dict[str, Any]) -> bool:
        self._client = SafeClient()
        try:
            await self._client.connect(
                self._servers,
                allow_reconnect=False,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.5,  # type: ignore[arg-type]  # seconds for asyncio.sleep, annotated as int
                reconnect_to_server_handler=next_server,
                connect_timeout=5,
                flush_timeout=5,  # a frozen server must not hold a publisher for ever
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                **options,
            )
        except (OSError, errors.Error) as error:
            refused = refusal(error, self._url)
            if refused is not None:
                raise refused from error
            return False
        return True

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error):
            self.violations += 1
            logger.warning("NATS refused us: %s", error)
        elif isinstance(error, errors.SlowConsumerError):
            logger.warning("dropped a message on %s: its handlers are too slow", error.subject)
        else:
            logger.debug("NATS: %r", error)

    async def _on_disconnected(self) -> None:
        if self._closing or self._good_since is None:
            return
        self.outages += 1
        self._good_since = None
        self._connected.clear()
        logger.warning("lost the connection to NATS at %s; reconnecting", self._url)

    async def _on_reconnected(self) -> None:
        self._is_good()
        logger.info("connected to NATS at %s again", self._url)
        if self._on_reconnect is not None:
            self._on_reconnect()

    def _is_good(self) -> None:
        self._good_since = time.monotonic()
        self._connected.set()

    @property
    def is_connected(self) -> bool:
        """Whether messages can leave now."""
        return self._client.is_connected

    @property
    def good_since(self) -> float | None:
        """The monotonic time of the last (re)connect; None while there is no connection."""
        return self._good_since if self._client.is_connected else None

    async def publish(self, subject: str, payload: Payload, headers: Mapping[str, str] | None = None) -> None:
        """Send a message to whoever listens; nobody says whether it arrived.

        Raises `PayloadTooLarge`, and `BusUnavailable` when too much already waits for a connection.
        """
        data = encoded(payload, self._client.max_payload)
        try:
            await self._client.publish(subject, data, headers=correlation.outgoing(headers))
        except (OSError, errors.OutboundBufferLimitError, errors.ConnectionClosedError) as error:
            raise BusUnavailable(f"cannot publish on {subject}: no connection to NATS at {self._url}") from error

    async def request(
        self, subject: str, payload: Payload, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Send a message and wait for the first answer.

        Raises `NoResponders` at once when nobody listens, `DeadlineExceeded` when no answer came in `timeout_s`,
        `BusUnavailable` when there was no connection in that time, `PayloadTooLarge`.
        """
        data = encoded(payload, self._client.max_payload)
        deadline = time.monotonic() + timeout_s
        await self._wait_connected(timeout_s)
        left = max(0.001, deadline - time.monotonic())
        try:
            answer = await self._client.request(subject, data, left, headers=correlation.outgoing(headers))
        except errors.NoRespondersError:
            raise NoResponders(f"nobody listens on {subject}") from None
        except errors.TimeoutError:
            raise DeadlineExceeded(f"no answer on {subject} within {timeout_s:g} s") from None
        except (OSError, errors.OutboundBufferLimitError, errors.ConnectionClosedError) as error:
            raise BusUnavailable(f"cannot ask on {subject}: no connection to NATS at {self._url}") from error
        return _plain(answer)

    async def _wait_connected(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_connected()
        except TimeoutError:
            raise BusUnavailable(f"no connection to NATS at {self._url} within {timeout_s:g} s") from None

    async def _until_connected(self) -> None:
        while not self._client.is_connected:  # nats-py knows of a loss before it tells us
            self._connected.clear()
            await self._connected.wait()

    async def respond(self, msg: Msg, payload: Payload) -> bool:
        """Answer `msg` to its inbox, errors with the service headers of ADR-32 too; False when it has no inbox."""
        if not msg.reply:
            return False
        await self.publish(msg.reply, payload, error_headers(payload))
        return True

    async def subscribe(
        self, subject: str, handler: Handler, *, tasks: asyncio.TaskGroup, queue: str = "", concurrency: int = 64
    ) -> Subscription:
        """Hand each message on `subject` to `handler`, in a task of `tasks`, at most `concurrency` at a time.

        With a `queue`, each message goes to one member of that group. With a concurrency of 1, messages are handled in
        order. Exceptions of the handler are logged. `flush` before announcing readiness: only then the server knows.
        """
        delivery = Delivery(subject, handler, tasks, concurrency)

        async def hand_over(msg: "NatsMsg") -> None:
            await delivery.deliver(_plain(msg))

        # 64 MB waiting per subject, not nats-py's 128: many agents share a machine.
        subscription = await self._client.subscribe(
            subject, queue=queue, cb=hand_over, pending_msgs_limit=65_536, pending_bytes_limit=64 * 1024 * 1024
        )
        return Subscription(self._client, subscription, delivery)

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Return when the server has seen all that was sent, subscriptions included. Raises `BusUnavailable`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_connected()
                await self._client.flush()
        except (TimeoutError, errors.Error) as error:
            raise BusUnavailable(f"NATS at {self._url} did not answer within {timeout_s:g} s") from error

    def jetstream(self) -> "JetStreamContext":
        """JetStream over this connection; OPMAS itself does not need it."""
        return self._client.jetstream()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Send what is still to be sent, then close. Safe to call again."""
        self._closing = True
        flushed = False
        try:
            if self._client.is_connected:
                async with asyncio.timeout(timeout_s):
                    await self._client.flush()
                flushed = True
        except (TimeoutError, errors.Error) as error:
            logger.debug("closing without a last flush: %r", error)
        finally:
            self._good_since = None
            self._connected.clear()
            await self._client.end(politely=flushed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _without_secrets(url: str) -> str:
    """Cut user and password from an address, so that it may stand in messages."""
    scheme, separator, rest = url.strip().rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _plain(msg: "NatsMsg") -> Msg:
    return Msg(msg.subject, msg.data, msg.reply, msg.headers or {})
