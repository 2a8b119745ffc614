"""Agno's own AgentOS from PyPI: one process that serves the agent and runs it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks import shell
from benchmarks.sides.peer import WORKLOAD

_PROGRAM = WORKLOAD / "agentos.py"
_PATIENCE_S = 30


@asynccontextmanager
async def serving(folder: Path, *, stores: bool) -> AsyncIterator[tuple[int, int]]:
    """Run it, with a SqliteDb or without a database; yields its port and its pid."""
    await asyncio.to_thread(folder.mkdir)
    port = shell.free_port()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AGNO_TELEMETRY": "false",
        "PYTHONPATH": str(WORKLOAD.parents[1]),
    }
    argv: list[str | Path] = [sys.executable, _PROGRAM, str(port), *([folder / "agno.db"] if stores else [])]
    async with shell.beside(*argv, env=env, log=folder / "log") as process:
        async with asyncio.timeout(_PATIENCE_S):
            await _until_open(port)
        yield port, process.pid


async def _until_open(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
