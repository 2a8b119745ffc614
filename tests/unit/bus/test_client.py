"""The private methods of nats-py that SafeClient overrides or reads are still what they were."""

import asyncio
import contextlib
import inspect

import pytest
from nats.aio.client import Client, Server
from nats.aio.transport import TcpTransport

from opmas.bus.client import SafeClient, heeding_cancellation, next_server, reconnect_delay

OVERRIDDEN = {
    "_process_pong": "(self) -> None",
    "_send_ping": "(self, future: Optional[asyncio.Future] = None) -> None",
    "_process_msg": "(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None",
    "_process_err": "(self, err_msg: str) -> None",
    "_read_loop": "(self) -> None",
    "_attempt_reconnect": "(self) -> None",
    "_connect_to_server": "(self, s: Srv) -> None",
    "_flush_pending": "(self, force_flush: bool = False) -> Any",
    "flush": "(self, timeout: int = 10) -> None",
    "request": (
        "(self, subject: str, payload: bytes = b, timeout: float = 0.5, old_style: bool = False, "
        "headers: Optional[Dict[str, Any]] = None) -> Msg"
    ),
}
CALLED = {
    "_process_op_err": "(self, e: Exception) -> None",
    "_send_command": "(self, cmd: bytes, priority: bool = False) -> None",
}
READ = (
    "_pongs",
    "_pongs_received",
    "_pings_outstanding",
    "_reading_task",
    "_ping_interval_task",
    "_flusher_task",
    "_reconnection_task",
    "_flush_queue",
    "_pending",
    "_pending_data_size",
    "_transport",
    "_status",
    "_error_cb",
)


@pytest.mark.parametrize(("name", "signature"), [*OVERRIDDEN.items(), *CALLED.items()])
def test_nats_py_still_has_the_private_method(name: str, signature: str) -> None:
    method = getattr(Client, name)

    assert inspect.iscoroutinefunction(method)
    assert str(inspect.signature(method)).replace("'", "") == signature


def test_safe_client_overrides_nothing_else() -> None:
    own = {name for name in vars(SafeClient) if hasattr(Client, name) and not name.startswith("__")}

    assert own == set(OVERRIDDEN)


def test_nats_py_still_has_the_private_attributes() -> None:
    client = Client()

    assert [name for name in READ if not hasattr(client, name)] == []
    assert hasattr(TcpTransport(), "_io_writer")


def test_the_wait_before_a_reconnect_grows_from_half_a_second_to_five_with_jitter() -> None:
    waits = {attempt: [reconnect_delay(attempt) for _ in range(200)] for attempt in (0, 1, 2, 3, 50)}

    assert all(0.15 <= wait <= 0.5 for wait in waits[0])
    assert all(1.5 <= wait <= 5.0 for wait in waits[50])
    assert len(set(waits[1])) > 100


def test_the_server_tried_least_is_tried_next() -> None:
    tired, fresh = Server(uri=None, reconnects=3), Server(uri=None, reconnects=0)  # type: ignore[arg-type]

    assert next_server([tired, fresh], {})[0] is fresh


async def test_a_cancellation_that_the_client_swallows_is_heeded_all_the_same() -> None:
    async def swallow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await heeding_cancellation(swallow())


async def test_a_flush_follows_all_that_was_sent_before() -> None:
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","headers":true,"max_payload":1048576}\r\n')
        while line := await reader.readline():
            said.append(line.split(b" ")[0].strip())
            if said[-1] == b"PING":
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = SafeClient()
    async with server, asyncio.timeout(10):
        await client.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await client.subscribe("news")
        await client.flush()
        await client.end(politely=True)

    assert said == [b"CONNECT", b"PING", b"SUB", b"PING"]
