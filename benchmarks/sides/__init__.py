"""The process managers that are compared: each module has a `SIDE`, opened with the agents' ids, none of them started.

An open side has `name`, `version`, `beats` (the ears), `start()` (the command that starts all agents) and
`agent_processes()` (the pids that exist because of the agents, the manager itself not among them).
"""

import asyncio
import importlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

NAMES = ("opmas", "supervisord", "circus", "pm2")


def load(wanted: str | None) -> list[Any]:
    """Load the sides that were asked for, all if none was."""
    return [
        importlib.import_module(f"benchmarks.sides.{name}").SIDE for name in (wanted.split(",") if wanted else NAMES)
    ]


@asynccontextmanager
async def opened(side: Any, ids: Sequence[str]) -> AsyncIterator[Any]:
    """Open a side in a folder of its own, and take all of it away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{side.name}-"))
    try:
        async with side.open(folder, ids) as it:
            yield it
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
