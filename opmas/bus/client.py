"""nats-py's client, made to come back from every loss of the connection.

Each override answers one way in which nats-py 2.16 goes deaf or closes for good; a unit test checks that the private
methods overridden here still exist with these signatures. Nothing closes this client but its owner.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from nats import errors
from nats.aio.client import PING_PROTO, Client, Server, Srv
from nats.aio.msg import Msg

T = TypeVar("T")

logger = logging.getLogger(__name__)

# What the server complains of without ending the connection; everything else it says with -ERR ends it.
_COMPLAINTS = ("permissions violation", "maximum subscriptions", "invalid subject", "invalid publish subject")


def reconnect_delay(attempt: int) -> float:
    """Seconds to wait before try number `attempt` (from 0): 0.5 s doubled up to 5 s.

    Jittered, so that a fleet does not return in step.
    """
    return float(min(5.0, 0.5 * 2 ** min(attempt, 4)) * random.uniform(0.3, 1.0))  # noqa: S311 - jitter, no secret


def next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
    """Choose the server tried least, and how long to wait before."""
    chosen = min(servers, key=lambda server: server.reconnects)
    return chosen, reconnect_delay(chosen.reconnects)


async def heeding_cancellation(call: Coroutine[Any, Any, T]) -> T:
    """Await `call`, and end as cancelled if it was cancelled but returned all the same.

    nats-py swallows cancellations in one place, and `asyncio.wait_for`, which it uses in others, does so in Python 3.11
    when what it waits for is done in the same moment. Whoever asked, a deadline or a task group, would wait for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await call
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


class SafeClient(Client):
    """A client that reconnects until it is closed."""

    async def _process_pong(self) -> None:
        # A flush that was cancelled or timed out leaves a finished future behind; setting its result would raise in
        # the read loop and end it, while `is_connected` goes on saying yes.
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes it to the socket past what is still waiting to be written: the answer then says nothing of a
        # subscription made just before, and who flushed to be ready is not.
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:  # the edge of a NATS message: a subject that is not UTF-8 would end the read loop
            logger.exception("dropped a message that cannot be read, on %r", subject)

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for good on expired or revoked credentials; they may have been renewed meanwhile.
        error = errors.Error("nats: " + err_msg.strip("'"))
        await self._error_cb(error)
        if not any(complaint in err_msg for complaint in _COMPLAINTS):
            await self._process_op_err(error)

    async def _read_loop(self) -> None:
        await super()._read_loop()
        task = asyncio.current_task()
        # Cancelled (swallowed above): the connection is being given up by someone who knows.
        if task is self._reading_task and task is not None and not task.cancelling():
            await self._process_op_err(errors.StaleConnectionError())

    async def _attempt_reconnect(self) -> None:
        for attempt in range(1_000_000_000):
            try:
                self._discard_connection()
                return await super()._attempt_reconnect()
            except Exception:  # the edge of the connection: an error unforeseen here would leave us deaf for good
                logger.exception("cannot reconnect to NATS; trying again")
                self._status = Client.RECONNECTING
                await asyncio.sleep(reconnect_delay(attempt))
        return None

    async def _connect_to_server(self, s: Srv) -> None:
        self._discard_connection()
        await super()._connect_to_server(s)

    def _discard_connection(self) -> None:
        """End the tasks of the last connection, and its socket without waiting for a peer that may be frozen."""
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        return await heeding_cancellation(super()._flush_pending(force_flush))

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - nats-py's signature
        """Return when the server has seen all that was sent."""
        await heeding_cancellation(super().flush(timeout))

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,  # noqa: ASYNC109 - nats-py's signature
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Send a message and wait for the first answer."""
        return await heeding_cancellation(super().request(subject, payload, timeout, old_style, headers))

    async def end(self, *, politely: bool) -> None:
        """Close for good and leave no task behind; not politely: without waiting for the peer to take what is left."""
        if not politely:
            self._pending, self._pending_data_size = [], 0
            self._discard_connection()
        if self._flush_queue is not None:  # else it never came to connecting
            try:
                async with asyncio.timeout(1.0):
                    await self.close()
            except (TimeoutError, OSError):
                self._discard_connection()
        tasks = (self._reading_task, self._ping_interval_task, self._flusher_task, self._reconnection_task)
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
