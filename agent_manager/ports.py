"""Who listens on a TCP port of this machine, so that a taken port is an error with a name in it."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opmas.wire.errors import Conflict

_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class PortHolder:
    """A process that listens; `pid` is 0 when it belongs to someone whose processes we may not look into."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.pid else "a process of another user"


def require_free(host: str, port: int, setting: str) -> None:
    """Raise Conflict, naming holder and setting, when nobody could listen on `host:port` now; port 0 always passes."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection of the last holder is no obstacle
        try:
            probe.bind((host, port))
            probe.listen(1)  # with SO_REUSEADDR two sockets may bind where none listens yet
        except OSError as error:
            holder = port_holder(port)
            by = f"it is taken by {holder}" if holder else os.strerror(error.errno or 0)
            raise Conflict(
                f"cannot listen on {host}:{port}: {by}", f"stop that process, or set {setting} to a free port"
            ) from error


def port_holder(port: int) -> PortHolder | None:
    """Find the process that listens on `port`, whatever the address; None when none does."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, links):
            return PortHolder(int(process.name), _command(process))
    return PortHolder(0, "")


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as lines:
            for line in lines:
                field = line.split()
                if field[3] == _LISTEN and int(field[1].rpartition(":")[2], 16) == port:
                    yield field[9]


def _holds(process: Path, links: set[str]) -> bool:
    with contextlib.suppress(OSError):  # it ended, or is not ours to look into
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(fd) in links:
                    return True
    return False


def _command(process: Path) -> str:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(words).strip()[:120]
    return "?"
