"""The two records of a slot, `state` and `exit`, and how they reach the disk whole.

Standard library only: written by the shim, read by the manager. A record that cannot be read counts as absent.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, Self

FORMAT = 1
RESERVED_BYTES = 4096  # of disk held back for the exit record, so that a full disk does not lose it

Path = str | os.PathLike[str]


class _Record:
    """Reading and writing, the same for both."""

    __slots__: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write it as one JSON object."""
        # Not by asdict: it copies deeply, and each line of it that a shim runs is memory that it no longer shares.
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it; unknown fields, which a newer shim may add, are ignored. Raises ValueError."""
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("cannot read a record: it is not a JSON object")  # noqa: TRY004 - as bad JSON is
        try:
            return cls(**{name: data[name] for name in cls.__slots__})
        except KeyError as missing:
            raise ValueError(f"cannot read a record: it has no {missing}") from missing

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the record at `path`; None when there is none, or it was torn by a power loss."""
        try:
            with open(path, "rb") as file:
                return cls.from_json(file.read())
        except (OSError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class SlotState(_Record):
    """Who lives in the slot. A pid alone identifies nobody: start ticks and boot id belong to it."""

    shim_pid: int
    shim_start_ticks: int
    pid: int
    start_ticks: int
    boot_id: str
    format: int
    start_count: int
    agent_id: str
    ordinal: int
    started_at: float


@dataclass(frozen=True, slots=True)
class SlotExit(_Record):
    """How the instance ended. `error` says why its program could not even be started."""

    code: int | None
    signal: int | None
    oom: bool  # killed while the kernel's count of out-of-memory kills rose: almost certainly the reason
    started_at: float
    ended_at: float
    start_count: int
    error: str | None


def reserve(path: Path) -> None:
    """Hold disk space for the record that `save` will write to `path`."""
    with contextlib.suppress(OSError), open(f"{os.fspath(path)}.new", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)


def save(path: Path, record: _Record) -> None:
    """Write `record`: readers, and a machine that lost power, see all of it or the one before. Raises OSError."""
    new = f"{os.fspath(path)}.new"
    data = record.to_json().encode()
    # Not truncated first: that would give the reserved space back.
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.pwrite(fd, data, 0) != len(data):
            raise OSError(f"cannot write {new}: the disk is full")
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)
