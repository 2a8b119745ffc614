"""A hundred Agno agents under each manager: how soon all are ready, what they weigh, how soon a killed one is back.

Ready is a heartbeat heard on NATS, with the same ears for every side. Memory is PSS, so that pages shared by forks or
mapped libraries count once.
"""

import argparse
import asyncio
import os
import signal
import statistics
import time
from dataclasses import dataclass
from typing import Any

from benchmarks import figures
from benchmarks.report import Section, ratio
from benchmarks.sides import load, opened

# OPMAS restarts at once what was healthy for a minute, and waits longer for what was not; every side gets that minute.
_HEALTHY_S = 61.0
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One side's figures."""

    name: str
    ready_s: float
    memory_mb: float
    back_s: float
    slowest_s: float


async def measure(options: argparse.Namespace) -> Section:
    """Measure side after side; never two at a time."""
    count, rounds = options.agents or 100, options.rounds or 20
    ids = [f"bench-{number:04d}" for number in range(count)]
    measured = []
    for side in load(options.sides):
        async with opened(side, ids) as it:
            measured.append(await _measure(it, ids, min(rounds, count)))
        print(measured[-1], flush=True)
    return _section(measured, count, rounds)


async def _measure(side: Any, ids: list[str], rounds: int) -> Figures:
    began = time.monotonic()
    starting = asyncio.create_task(side.start(), name="start command")
    ready = await side.beats.all_ready(ids, _PATIENCE_S)
    await starting
    await asyncio.sleep(max(0.0, ready + _HEALTHY_S - time.monotonic()))
    memory = figures.pss_mb(side.agent_processes()) / len(ids)
    back = [await _kill(side, agent_id) for agent_id in ids[:rounds]]
    name = f"{side.name} {side.version}"
    return Figures(name, ready - began, memory, statistics.median(back), max(back))


async def _kill(side: Any, agent_id: str) -> float:
    pid = side.beats.pids[agent_id]
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    back = await side.beats.replaced(agent_id, pid, _PATIENCE_S)
    await asyncio.sleep(0.2)  # one at a time, and let the machine come to rest
    return float(back - killed)


def _section(measured: list[Figures], count: int, rounds: int) -> Section:
    section = Section(
        f"{count} Agno agents",
        ("", "start command to all ready", "memory per agent (PSS)", "kill -9 to ready, median", "slowest"),
    )
    ours = measured[0]
    for each in measured:
        section.rows.append(
            (
                each.name,
                f"{each.ready_s:.2f} s{_times(each.ready_s, ours.ready_s, each is ours)}",
                f"{each.memory_mb:.1f} MB{_times(each.memory_mb, ours.memory_mb, each is ours)}",
                f"{each.back_s * 1000:.0f} ms{_times(each.back_s, ours.back_s, each is ours)}",
                f"{each.slowest_s * 1000:.0f} ms",
            )
        )
    section.notes.append("OPMAS's memory counts instances, shims and template; the managers themselves count nowhere")
    section.notes.append("circus starts no set of agents by command: its time is from the start of circusd")
    section.notes.append(f"{min(rounds, count)} different agents were killed, each after a minute of health")
    return section


def _times(theirs: float, ours: float, is_ours: bool) -> str:
    return "" if is_ours else f" ({ratio(theirs, ours)})"
