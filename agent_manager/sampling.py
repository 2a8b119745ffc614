"""CPU and memory of every instance, from one pass over `/proc` per monitoring interval.

An instance's figures include everything it has started: its whole tree of processes, without its shim.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from agent_manager.process import procfs

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """`cpu_percent` of one core since the sample before; `memory_bytes` resident, shared pages once per process."""

    cpu_percent: float | None
    memory_bytes: int
    cpu_ticks: int
    at_mono: float


@dataclass(frozen=True, slots=True)
class Handles:
    """What is counted only when somebody asks, because it costs a system call per item."""

    open_files: int
    threads: int


def sample(pids: Iterable[int], before: dict[int, Sample]) -> dict[int, Sample]:
    """Measure the trees below `pids`; `before` holds the last samples, by pid. Pids that are gone are left out."""
    table = procfs.scan()
    children = procfs.children_by_parent(table)
    at = time.monotonic()
    samples = {}
    for pid in pids:
        members = [table[p] for p in (pid, *procfs.descendants(pid, children)) if p in table]
        if not members:
            continue
        ticks = sum(member.cpu_ticks for member in members)
        samples[pid] = Sample(
            cpu_percent=_percent(ticks, at, before.get(pid)),
            memory_bytes=sum(member.rss_bytes for member in members),
            cpu_ticks=ticks,
            at_mono=at,
        )
    return samples


def _percent(ticks: int, at: float, before: Sample | None) -> float | None:
    if before is None or at <= before.at_mono:
        return None
    # A child that ended takes its ticks along; the figure is then too low for one interval, never negative.
    used_s = max(ticks - before.cpu_ticks, 0) / _TICKS_PER_S
    return round(100 * used_s / (at - before.at_mono), 1)


def handles(pid: int) -> Handles | None:
    """Count the open files and threads of one process; None when it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return Handles(open_files=process.num_fds(), threads=process.num_threads())
    return None
