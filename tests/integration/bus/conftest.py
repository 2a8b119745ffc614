"""A nats-server that a test may kill and start again on its port, and a relay that says what the server would not."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

NATS_SERVER = Path(sys.executable).with_name("nats-server")


class Server:
    """One nats-server of this test's own."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self.config = folder / "nats.conf"
        self.config.write_text("")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.process = await asyncio.create_subprocess_exec(
            NATS_SERVER, "-a", "127.0.0.1", "-p", str(self.port), "-c", self.config, "-l", self.config.with_name("log")
        )
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def freeze(self) -> None:
        """Stop it with SIGSTOP: connections stay open and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(5):
            while True:
                if psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED:
                    return
                await asyncio.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def reconfigure(self, text: str) -> None:
        """Change its configuration while it runs."""
        assert self.process is not None
        self.config.write_text(text)
        self.process.send_signal(signal.SIGHUP)


class Relay:
    """A TCP relay before a server: `inject` says something to every client in the server's name."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._clients: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._listener: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen; return the address for clients."""
        self._listener = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._clients.add(writer)
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, server_writer))
                both.create_task(_pump(server_reader, writer))
        finally:
            for each in (writer, server_writer):
                each.close()
            self._clients.discard(writer)
            if not self._clients:
                self._idle.set()

    def inject(self, line: bytes) -> None:
        """Say `line` to every client."""
        for client in self._clients:
            client.write(line)

    async def close(self) -> None:
        """Hang up."""
        assert self._listener is not None
        self._listener.close()
        for client in self._clients:
            client.close()
        if self._clients:
            async with asyncio.timeout(5):
                await self._idle.wait()
        await asyncio.sleep(0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@pytest.fixture
async def server(free_port: Callable[[], int], tmp_path: Path) -> AsyncIterator[Server]:
    """Run a nats-server of the test's own."""
    own = Server(free_port(), tmp_path)
    await own.start()
    yield own
    await own.kill()


@pytest.fixture
async def relay(server: Server) -> AsyncIterator[Relay]:
    """Stand between the test's clients and its server."""
    between = Relay(server.port)
    yield between
    await between.close()
