"""Checks of the machine: Python, kernel, limits, the data directory, its secrets, the disk, the clock."""

import os
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from agent_manager.process.confine import landlock_abi
from opmas.cli.diagnosis.finding import Finding, fail, ok, warn

_OLDEST_PYTHON = (3, 11)
# A manager holds some eight descriptors for each instance; this is enough for 500.
_FEW_FILES = 4096
_MB = 1 << 20
# JetStream and SQLite stop writing when the disk is full; the first warning must come in time to do something.
_FULL_BYTES, _SCARCE_BYTES = 100 * _MB, 1000 * _MB
# Below this the kernel begins to stall whoever asks for memory: heartbeats come late, agents are blamed.
_SHORT_OF_MEMORY = 0.05
# No file can have been written later than now, but for the coarse clock of the file system.
_FUTURE_S = 60.0
_SECRETS = ("admin.token", "nats/*.creds", "nats/keys/*", "nats/server.conf", "run/*/*/*.creds", "run/*/*/token")


def python() -> Iterator[Finding]:
    """Python is of a version that OPMAS supports."""
    version = sys.version.split()[0]
    if sys.version_info >= _OLDEST_PYTHON:
        yield ok("python", f"{version} ({sys.executable})")
    else:
        yield fail("python", f"{version} is older than 3.11", "install Python 3.11 or newer, and OPMAS into it")


def kernel() -> Iterator[Finding]:
    """The kernel knows pidfds, without which nothing runs, and Landlock, which keeps agents apart."""
    release = os.uname().release
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        yield fail(
            "kernel", f"{release} has no pidfd_open", "run Linux 5.3 or newer (and a sandbox that lets it through)"
        )
        return
    if abi := landlock_abi():
        yield ok("kernel", f"{release}: pidfd, Landlock {abi}")
    else:
        yield warn(
            "kernel",
            f"{release} has no Landlock: agents of one user can read each other's files",
            "run Linux 5.13 or newer with landlock among the LSMs (cat /sys/kernel/security/lsm)",
        )


def open_files() -> Iterator[Finding]:
    """The limit of open files is high enough; the manager raises its own to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _FEW_FILES:
        yield ok("nofile", f"up to {'any number of' if hard == resource.RLIM_INFINITY else hard} open files")
    else:
        yield warn(
            "nofile",
            f"at most {hard} open files: enough for some {hard // 8} instances",
            "raise the hard limit: LimitNOFILE= in the unit, `ulimit -Hn`, or /etc/security/limits.conf",
        )


def memory() -> Iterator[Finding]:
    """There is memory left."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    free, total = kilobytes["MemAvailable"], kilobytes["MemTotal"]
    what = f"{free // 1024} MB of {total // 1024} MB can be had"
    if free < total * _SHORT_OF_MEMORY:
        yield warn("memory", what, "`opmas ls` shows who takes it: run fewer replicas, or limit them in agent.yaml")
    else:
        yield ok("memory", what)


def data_directory(home: Path) -> Iterator[Finding]:
    """The data directory can be written, and nobody else can read it."""
    if not home.exists():
        parent = next(folder for folder in home.parents if folder.exists())
        if parent.is_dir() and os.access(parent, os.W_OK):
            yield ok("home", f"{home} is not there yet; `opmas up` makes it")
        else:
            yield fail(
                "home",
                f"cannot make {home}: {parent} is no folder that we may write",
                "set OPMAS_HOME to a folder of yours",
            )
        return
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x")
            os.fsync(file.fileno())
    except OSError as error:
        why = error.strerror or str(error)
        yield fail("home", f"cannot write in {home}: {why}", "make it writable, or set OPMAS_HOME to another folder")
        return
    if home.stat().st_mode & 0o077:
        yield warn("home", f"others may look into {home}", f"chmod 700 {home}")
    else:
        yield ok("home", f"{home} is writable, and closed to others")


def secrets(home: Path) -> Iterator[Finding]:
    """Keys, tokens and credentials can be read by their owner alone."""
    found = _facts(path for pattern in _SECRETS for path in home.glob(pattern))
    loose = [path for path, facts in found.items() if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077]
    if loose:
        names = ", ".join(str(path.relative_to(home)) for path in loose[:5])
        paths = " ".join(str(path) for path in loose[:5])
        yield fail("secrets", f"others may read {names}", f"chmod 600 {paths}; if others had access, replace them")
    elif found:
        yield ok("secrets", f"{len(found)} files, each for its owner alone")


def disk(home: Path) -> Iterator[Finding]:
    """There is room where the data lies."""
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    usage = shutil.disk_usage(place)
    what = f"{usage.free // _MB} MB free of {usage.total // _MB} MB at {place}"
    hint = f"make room, or set OPMAS_HOME to another disk; `du -xh --max-depth=2 {place}` shows what takes it"
    if usage.free < _FULL_BYTES:
        yield fail("disk", what, hint)
    elif usage.free < _SCARCE_BYTES:
        yield warn("disk", what, hint)
    else:
        yield ok("disk", what)


def clock(home: Path) -> Iterator[Finding]:
    """The clock is not behind what it was: tokens and credentials expire by it."""
    now = time.time()
    newest = max((facts.st_mtime for facts in _facts((home, *home.glob("*"))).values()), default=now)
    if newest - now > _FUTURE_S:
        yield fail(
            "clock",
            f"files of {home} were written {newest - now:.0f} s in the future: the clock was set back",
            "set the clock (`timedatectl`): credentials are refused until it is later than when they were made",
        )
    else:
        yield ok("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _facts(paths: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Look at files, some of which come and go."""
    found = {}
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found[path] = path.stat()
    return found
