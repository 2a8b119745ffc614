"""Facts about processes, read straight from /proc.

One pass over `/proc/*/stat` serves a whole fleet: a library that walks the tree once per process costs 29 ms each.
Standard library only: the shim uses it too.
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ProcessStat(NamedTuple):
    """One line of the table: cpu in ticks (divide by `TICKS_PER_SECOND`), memory in bytes."""

    ppid: int
    cpu_ticks: int
    rss_bytes: int
    start_ticks: int


@functools.cache
def boot_id() -> str:
    """Name this boot of the machine: a pid from another boot identifies nobody."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def stat(pid: int) -> ProcessStat | None:
    """Read one process; None when there is none of that pid. A zombie still counts."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(fd, 1024)
    except OSError:  # it ended between open and read
        return None
    finally:
        os.close(fd)
    # The name may hold blanks and brackets; what follows its last bracket does not.
    after_name = line[line.rindex(b")") + 2 :].split()
    return ProcessStat(
        ppid=int(after_name[1]),
        cpu_ticks=int(after_name[11]) + int(after_name[12]),
        rss_bytes=int(after_name[21]) * PAGE_BYTES,
        start_ticks=int(after_name[19]),
    )


def start_ticks(pid: int) -> int | None:
    """Say when `pid` started, in kernel ticks since boot: with the pid and the boot id it identifies a process."""
    found = stat(pid)
    return None if found is None else found.start_ticks


def pids() -> list[int]:
    """List every process."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def scan() -> dict[int, ProcessStat]:
    """Read all processes in one pass."""
    return {pid: found for pid in pids() if (found := stat(pid)) is not None}


def children_by_parent(table: Mapping[int, ProcessStat]) -> dict[int, list[int]]:
    """Turn the table round, once for many calls of `descendants`."""
    children: dict[int, list[int]] = {}
    for pid, entry in table.items():
        children.setdefault(entry.ppid, []).append(pid)
    return children


def descendants(pid: int, children: Mapping[int, Iterable[int]]) -> list[int]:
    """List all below `pid`, without itself, parents first."""
    found = list(children.get(pid, ()))
    for each in found:  # grows as it goes
        found.extend(children.get(each, ()))
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    return found


def tree(pid: int) -> list[int]:
    """List all descendants of one process, parents first, without a look at all the others where the kernel can."""
    if not _has_children_files():
        return descendants(pid, children_by_parent(scan()))
    found = _children(pid)
    for each in found:
        found.extend(_children(each))
    return found


@functools.cache
def _has_children_files() -> bool:
    """Say whether the kernel has /proc/PID/task/TID/children; few are built without."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")
