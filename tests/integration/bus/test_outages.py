"""The connection comes back, whatever ended it, and says truly whether it is good."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nkeys
import pytest

from opmas.bus import Bus, BusUnavailable, Msg
from opmas.wire.errors import InvalidRequest, PermissionDenied


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Echo:
    """Answers on `test.echo`, to tell whether a bus hears and speaks."""

    def __init__(self, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        self.bus, self.tasks = bus, tasks

    async def listen(self) -> None:
        await self.bus.subscribe("test.echo", self._answer, tasks=self.tasks)
        await self.bus.flush()

    async def _answer(self, msg: Msg) -> None:
        await self.bus.respond(msg, msg.data)

    async def works(self) -> bool:
        return (await self.bus.request("test.echo", b"ping", 15)).data == b"ping"


async def test_the_bus_survives_a_killed_server(server: Any) -> None:
    back = asyncio.Event()
    async with await Bus.connect(server.url, name="test", on_reconnect=back.set) as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()
        first = bus.good_since
        assert first is not None

        await server.kill()
        await until(lambda: not bus.is_connected)
        assert bus.good_since is None
        await server.start()

        assert await echo.works()
        assert bus.outages == 1
        async with asyncio.timeout(5):
            await back.wait()
        assert bus.good_since is not None
        assert bus.good_since > first


async def test_what_is_published_during_an_outage_arrives_after_it(server: Any) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(msg: Msg) -> None:
        got.put_nowait(msg.data)

    async with await Bus.connect(server.url, name="test") as bus, asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.kept", take, tasks=tasks)
        await bus.flush()
        await server.kill()
        await until(lambda: not bus.is_connected)

        await bus.publish("test.kept", b"kept")
        with pytest.raises(BusUnavailable, match=r"within 0.1 s"):
            await bus.request("test.kept", b"", 0.1)
        await server.start()

        async with asyncio.timeout(15):
            assert await got.get() == b"kept"


async def test_too_much_for_the_buffer_is_refused_during_an_outage(server: Any) -> None:
    async with await Bus.connect(server.url, name="test") as bus:
        await server.kill()
        await until(lambda: not bus.is_connected)

        for _ in range(2):
            await bus.publish("test", b"x" * 900_000)
        with pytest.raises(BusUnavailable, match="cannot publish on test"):
            await bus.publish("test", b"x" * 900_000)


async def test_a_cancelled_flush_leaves_the_bus_hearing(server: Any) -> None:
    async with await Bus.connect(server.url, name="test") as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()
        await server.freeze()
        for _ in range(2):
            with pytest.raises(BusUnavailable):
                await bus.flush(timeout_s=0.05)
        server.thaw()

        assert await echo.works()
        assert bus.outages == 0


async def test_a_read_loop_that_dies_becomes_a_reconnect(server: Any, relay: Any) -> None:
    async with await Bus.connect(await relay.open(), name="test") as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()

        relay.inject(b"INFO {broken\r\n")  # nats-py raises a ValueError and would be deaf from here on
        await until(lambda: bus.outages == 1)

        assert await echo.works()


async def test_a_subject_that_is_not_utf8_is_dropped_and_nothing_else(
    server: Any, relay: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with await Bus.connect(await relay.open(), name="test") as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()

        relay.inject(b"MSG \xff\xfe 1 2\r\nhi\r\n")

        assert await echo.works()
        assert bus.outages == 0
        assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    "word", ["User Authentication Expired", "Authentication Revoked", "Authorization Violation", "Maximum Payload"]
)
async def test_what_closes_nats_py_for_good_is_a_reconnect_here(server: Any, relay: Any, word: str) -> None:
    async with await Bus.connect(await relay.open(), name="test") as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()

        relay.inject(f"-ERR '{word}'\r\n".encode())
        await until(lambda: bus.outages == 1)

        assert await echo.works()


async def test_a_user_who_is_removed_and_let_in_again_comes_back(server: Any) -> None:
    users = 'authorization { users = [ {user: "a", password: "pw"}%s ] }'
    await server.reconfigure(users % ', {user: "b", password: "pw"}')
    async with await connect_when_allowed(server.url, "b", "pw") as bus, asyncio.TaskGroup() as tasks:
        echo = Echo(bus, tasks)
        await echo.listen()

        await server.reconfigure(users % "")
        await until(lambda: not bus.is_connected)
        await server.reconfigure(users % ', {user: "b", password: "pw"}')

        assert await echo.works()


async def connect_when_allowed(url: str, user: str, password: str) -> Bus:
    async with asyncio.timeout(10):
        while True:
            try:
                return await Bus.connect(url, name="test", user=user, password=password)
            except PermissionDenied:
                await asyncio.sleep(0.02)


async def test_a_refused_subject_is_counted_and_logged(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    await server.kill()
    server.config.write_text(
        'authorization { users = [ {user: "a", password: "pw", permissions: {publish: ["ok", "_INBOX.>"]}} ] }'
    )
    await server.start()
    async with await Bus.connect(server.url, name="test", user="a", password="pw") as bus:
        await bus.publish("forbidden", b"")
        await bus.flush()

        await until(lambda: bus.violations == 1)
        assert "forbidden" in caplog.text
        assert bus.outages == 0


async def test_wrong_credentials_are_refused_at_once(server: Any) -> None:
    await server.kill()
    server.config.write_text('authorization { user: "a", password: "pw" }')
    await server.start()

    async with asyncio.timeout(5):
        with pytest.raises(PermissionDenied, match="refused the credentials"):
            await Bus.connect(server.url, name="test", user="a", password="wrong", timeout_s=60)


async def test_without_a_server_the_first_connect_ends_at_its_deadline(free_port: Callable[[], int]) -> None:
    with pytest.raises(BusUnavailable, match=r"127.0.0.1:\d+ within 0.3 s: .*Connect call failed") as refused:
        await Bus.connect(f"nats://me:hidden@127.0.0.1:{free_port()}", name="test", timeout_s=0.3)

    assert "hidden" not in str(refused.value)


async def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="is not an address"):
        await Bus.connect("nats://host:port", name="test")


async def test_a_missing_credentials_file_is_named(server: Any, tmp_path: Path) -> None:
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
    await server.kill()
    server.config.write_text(f"authorization {{ users = [ {{nkey: {pair.public_key.decode()}}} ] }}")
    await server.start()

    with pytest.raises(PermissionDenied, match=r"no credentials file .*/absent"):
        await Bus.connect(server.url, name="test", creds=tmp_path / "absent")


async def test_closing_a_bus_whose_server_is_frozen_ends_in_time(server: Any) -> None:
    bus = await Bus.connect(server.url, name="test")
    await server.freeze()
    try:
        for _ in range(2):
            await bus.publish("test", b"x" * 900_000)
    finally:
        async with asyncio.timeout(10):
            await bus.close(timeout_s=0.2)
        server.thaw()


async def test_requests_use_the_private_inbox(server: Any) -> None:
    inboxes: list[str] = []

    async def answer(msg: Msg) -> None:
        inboxes.append(msg.reply)
        await bus.respond(msg, b"")

    async with (
        await Bus.connect(server.url, name="test", inbox_prefix="_INBOX_me") as bus,
        asyncio.TaskGroup() as tasks,
    ):
        await bus.subscribe("test.ask", answer, tasks=tasks)
        await bus.flush()
        await bus.request("test.ask", b"", 5)

    assert inboxes[0].startswith("_INBOX_me.")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
