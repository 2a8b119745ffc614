"""What the kernel is told about an instance before it may run: its user, parent and limits, and what it may not touch.

Landlock knows permissions only, so a folder is closed by opening all the others: everything beside the way from `/`
down to it. In the folders *on* that way an instance can create and change nothing; names it can list everywhere.
Standard library only; runs in the instance, as the last act before its own code.
"""

import ctypes
import functools
import os
import resource
import signal
import stat
import struct
from collections.abc import Iterator

from agent_manager.process.spec import InstanceSpec, Limits

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# The same on every architecture that has Landlock.
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
RULE_PATH_BENEATH = 1
SCOPE_SIGNAL = 1 << 1

EXECUTE, WRITE_FILE, READ_FILE = 1 << 0, 1 << 1, 1 << 2
READ_DIR = 1 << 3  # never handled: an interpreter lists folders on the way to its modules
CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # remove and make, all kinds
REFER, TRUNCATE = 1 << 13, 1 << 14
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE


def prctl(option: int, value: int) -> None:
    """Call prctl(2). Raises OSError."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot set process option {option}: {os.strerror(number)}")


@functools.cache
def landlock_abi() -> int:
    """Say which Landlock the kernel has: 0 is none, and `private_dir` is not closed; from 6 on it keeps signals in."""
    version: int = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)
    return max(0, version)


def confine(spec: InstanceSpec, parent: int) -> None:
    """Make this process the instance of `spec`, child of the shim `parent`. Raises OSError or ValueError."""
    if spec.gid is not None:
        os.setgroups([spec.gid])
        os.setgid(spec.gid)
    if spec.uid is not None:
        os.setuid(spec.uid)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which clears it
    if os.getppid() != parent:  # the shim died before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _limit(spec.limits)
    if spec.private_dir is not None and landlock_abi() > 0:
        _close_folder(os.path.realpath(spec.private_dir), (spec.slot_dir, *spec.readable), spec.writable)


def _limit(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.nofile),
        (resource.RLIMIT_NPROC, limits.nproc),
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
    ):
        if value is not None:
            _, ceiling = resource.getrlimit(kind)
            allowed = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
            resource.setrlimit(kind, (allowed, allowed))


def _close_folder(private: str, readable: tuple[str, ...], writable: tuple[str, ...]) -> None:
    handled = EXECUTE | WRITE_FILE | READ_FILE | CHANGE_FOLDERS
    handled |= REFER if landlock_abi() >= 2 else 0
    handled |= TRUNCATE if landlock_abi() >= 3 else 0
    scoped = SCOPE_SIGNAL if landlock_abi() >= 6 else 0
    attributes = struct.pack("=QQQ", handled, 0, scoped)[: 24 if scoped else 8]
    rules = _landlock(SYS_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in (*_beside(private), *map(os.path.realpath, writable)):
            _allow(rules, path, handled)
        for path in map(os.path.realpath, readable):
            _allow(rules, path, READ_FILE | EXECUTE)
        _landlock(SYS_LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _beside(private: str) -> Iterator[str]:
    """List what lies beside each folder on the way from / to `private`."""
    folder, kept = os.path.split(private)
    while kept:
        try:
            for name in os.listdir(folder):
                if name != kept:
                    yield os.path.join(folder, name)
        except PermissionError:  # what cannot be listed stays closed
            pass
        folder, kept = os.path.split(folder)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it went away, or is not ours to see
        return
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):  # where it leads to has a rule of its own, or must not have one
            return
        if not stat.S_ISDIR(mode):
            access &= ON_FILES
        rule = struct.pack("=Qi", access, fd)
        _landlock(SYS_LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def _landlock(*arguments: int | bytes) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot confine the instance with Landlock: {os.strerror(number)}")
    return result
