"""How long the command lines take, whole processes, beside those of the others."""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import shell
from benchmarks.report import Section
from benchmarks.sides import load, opened

_AGENTS = 10


async def measure(options: argparse.Namespace) -> Section:
    """Time `--version` and the list of agents on each side, with ten agents running."""
    rounds = options.rounds or 20
    section = Section(f"Command lines, {_AGENTS} agents running", ("", "version", "list of agents"))
    for side in load(options.sides):
        async with opened(side, [f"bench-{number:04d}" for number in range(_AGENTS)]) as it:
            await it.start()
            await it.beats.all_ready(it.ids, 120)
            cells = [await _median(argv, it.env, rounds) for argv in (it.version_command, it.list_command)]
            section.rows.append((f"{it.name} {it.version}", *cells))
    section.notes.append(f"median of {rounds} runs; OPMAS lists over HTTP, the others over a local socket")
    return section


async def _median(argv: Sequence[str | Path], env: dict[str, str], rounds: int) -> str:
    taken = [await _time(argv, env) for _ in range(rounds)]
    return f"{statistics.median(taken) * 1000:.0f} ms"


async def _time(argv: Sequence[Any], env: dict[str, str]) -> float:
    began = time.perf_counter()
    await shell.run(*argv, env=env)
    return time.perf_counter() - began
