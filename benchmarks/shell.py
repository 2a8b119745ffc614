"""Programs that a benchmark runs: to their end with a deadline, or beside it."""

import asyncio
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


async def run(
    *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 600
) -> str:
    """Run a program to its end and return what it printed. Raises RuntimeError with that when it fails."""
    process = await asyncio.create_subprocess_exec(
        *argv, env=dict(env) if env is not None else None, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} ended with {process.returncode}:\n{said.decode()[-2000:]}")
    return said.decode()


@asynccontextmanager
async def beside(
    *argv: str | Path, env: Mapping[str, str] | None = None, log: Path, grace_s: float = 30
) -> AsyncIterator[Process]:
    """Run a program as long as the context lasts; then SIGTERM, and SIGKILL after `grace_s`."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, env=dict(env) if env is not None else None, stdin=DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until_there(path: Path, timeout_s: float = 30) -> None:
    """Wait for a file or socket that a program makes when it is ready."""

    def look() -> None:
        until = time.monotonic() + timeout_s
        while not (path.is_socket() or (path.exists() and path.stat().st_size > 0)):
            if time.monotonic() > until:
                raise TimeoutError(f"{path} was not made within {timeout_s:g} s")
            time.sleep(0.02)

    await asyncio.to_thread(look)


def free_port() -> int:
    """Find a TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
