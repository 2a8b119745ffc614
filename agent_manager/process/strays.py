"""Finds and ends what instances left behind when their shims were killed; one look at all processes serves many slots.

A fork that left its session shows the template's environment, but holds its slot's lock; an exec'd program may have
closed the lock, but shows the slot in its environment. A living shim holds the lock too: it is for the caller to leave
its slot out. All of this takes milliseconds: call it in a thread.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Set
from pathlib import Path

from agent_manager.process import procfs
from agent_manager.process.spec import SLOT_VARIABLE

DEADLINE_S = 5.0

_FileId = tuple[int, int]  # device and inode


def lock_holders(slots: Iterable[Path]) -> list[int]:
    """List the processes that hold a lock of these slots: shims, instances, and forks of those that outlived both."""
    locks = _locks(slots)
    return _matching(lambda pid: _holds(pid, locks))


def find(slots: Iterable[Path]) -> list[int]:
    """List the processes that belong to these slots."""
    slots = list(slots)
    locks = _locks(slots)
    marks = {f"{SLOT_VARIABLE}={os.path.realpath(slot)}".encode() for slot in slots}
    return _matching(lambda pid: _holds(pid, locks) or _shows(pid, marks)) if slots else []


def sweep(slots: Iterable[Path]) -> list[int]:
    """Kill all that belongs to these slots, until none is left; returns whom. Raises TimeoutError after 5 s."""
    slots = list(slots)
    killed: set[int] = set()
    deadline = time.monotonic() + DEADLINE_S
    while found := find(slots):
        for pid in found:
            _kill(pid)
        killed.update(found)
        if time.monotonic() > deadline:
            raise TimeoutError(f"cannot sweep {', '.join(map(str, slots))}: {found} do not end")
        time.sleep(0.002)  # the kernel needs a moment to take them down
    return sorted(killed)


def _matching(belongs: Callable[[int], bool]) -> list[int]:
    return sorted(pid for pid in procfs.pids() if pid != os.getpid() and belongs(pid))


def _locks(slots: Iterable[Path]) -> set[_FileId]:
    found = set()
    for slot in slots:
        with contextlib.suppress(FileNotFoundError):
            found.add(_identity(os.stat(slot / "lock")))
    return found


def _identity(facts: os.stat_result) -> _FileId:
    return facts.st_dev, facts.st_ino


def _holds(pid: int, locks: Set[_FileId]) -> bool:
    with contextlib.suppress(OSError):  # gone, or of another user
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if _identity(os.stat(f"/proc/{pid}/fd/{fd}")) in locks:
                    return True
    return False


def _shows(pid: int, marks: Set[bytes]) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return any(entry in marks for entry in file.read().split(b"\0"))
    return False


def _kill(pid: int) -> None:
    ticks = procfs.start_ticks(pid)
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            # Listed a moment ago: the pid may be another's by now.
            if ticks is not None and procfs.start_ticks(pid) == ticks:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
