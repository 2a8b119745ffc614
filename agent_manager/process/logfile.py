"""The manager's side of an instance's log: the last lines, and all that follows, across rotation and adoption.

Written by `logwriter`, in the shim. Holds no file open between calls: a follower keeps a cursor, and that is all.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

READ_BYTES = (
    4 << 20
)  # per call: bounds what a follower costs, and holds the longest line there can be (256 KiB, escaped)
BLOCK_BYTES = 64 * 1024
_HEAD_BYTES = len('{"t":1234567890.123456')  # tells one log from another, and no line is shorter


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output: `t` in unix seconds, `stream` is `out` or `err`."""

    t: float
    stream: str
    text: str


class LogReader:
    """Reads `log`, `log.1`, … of one slot.

    A cursor names a file by inode and first time stamp, for a new log likes to take the inode of one that went.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def tail(self, count: int) -> tuple[list[LogLine], str]:
        """Read the last `count` lines, and the cursor behind them."""
        lines: list[LogLine] = []
        cursor = ""
        with self._open_all() as files:
            for file, identity in reversed(files):
                found, end = _last_lines(file, count - len(lines))
                cursor = cursor or f"{identity}-{end}"
                lines[:0] = found
                if len(lines) >= count:
                    break
        return lines, cursor

    def read_since(
        self, cursor: str, fits: Callable[[LogLine], bool] = lambda _line: True
    ) -> tuple[list[LogLine], str]:
        """Read on from `cursor` ("" is the oldest line there is): at most some MiB; no lines means the end was reached.

        It ends before the first line that does not fit, which the returned cursor then leads to. A follower that was so
        slow that its file has gone goes on with the oldest one left.
        """
        identity, _, end = cursor.rpartition("-")
        lines: list[LogLine] = []
        room = READ_BYTES
        with self._open_all() as files:
            known = [each for _, each in files]
            start = known.index(identity) if identity in known else 0
            # A cursor has been in a stranger's hands; no file is longer than 15 digits say.
            offset = int(end) if identity in known and end.isdecimal() and len(end) < 16 else 0
            for file, each in files[start:]:
                data = os.pread(file.fileno(), room, offset)
                data = data[: data.rfind(b"\n") + 1]  # a line that is being written is read the next time
                found, taken = _fitting(data, fits)
                lines.extend(found)
                room -= taken
                cursor = f"{each}-{offset + taken}"
                if taken < len(data) or room < READ_BYTES // 2:  # what is left might not hold a line
                    break
                offset = 0
        return lines, cursor

    @contextlib.contextmanager
    def _open_all(self) -> Iterator[list[tuple[BinaryIO, str]]]:
        """Open all that have lines; the oldest is first in the list.

        The newest is opened first: a rotation meanwhile then shows one file twice, and hides none.
        """
        files: dict[str, BinaryIO] = {}
        number = 0
        with contextlib.ExitStack() as stack:
            while True:
                name = f"{self.path}.{number}" if number else self.path
                try:
                    file = stack.enter_context(open(name, "rb"))
                except FileNotFoundError:
                    if number:
                        break
                else:
                    if identity := _identify(file):
                        files.setdefault(identity, file)
                number += 1
            yield [(file, identity) for identity, file in reversed(files.items())]


def _identify(file: BinaryIO) -> str:
    # Whatever stands there: a power loss may have torn the first line, and the others are to be read all the same.
    head = os.pread(file.fileno(), _HEAD_BYTES, 0)
    return f"{os.fstat(file.fileno()).st_ino}-{head.hex()}" if len(head) == _HEAD_BYTES else ""


def _last_lines(file: BinaryIO, count: int) -> tuple[list[LogLine], int]:
    """Read backwards until `count` lines are there; also say where the last whole line ends."""
    start = size = os.fstat(file.fileno()).st_size
    blocks: list[bytes] = []
    newlines = 0
    while start > 0 and newlines <= count:
        step = min(BLOCK_BYTES, start)
        start -= step
        blocks.insert(0, os.pread(file.fileno(), step, start))
        newlines += blocks[0].count(b"\n")
    data = b"".join(blocks)
    whole = data[: data.rfind(b"\n") + 1]
    end = size - (len(data) - len(whole))
    if start > 0:
        whole = whole[whole.find(b"\n") + 1 :]
    return _parse(whole)[-count:], end


def _fitting(data: bytes, fits: Callable[[LogLine], bool]) -> tuple[list[LogLine], int]:
    """Take whole lines from the front of `data` as long as they fit; also say how many bytes those were."""
    lines: list[LogLine] = []
    taken = 0
    for raw in data.split(b"\n")[:-1]:
        for line in _parse(raw):
            if not fits(line):
                return lines, taken
            lines.append(line)
        taken += len(raw) + 1
    return lines, taken


def _parse(data: bytes) -> list[LogLine]:
    lines = []
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # torn by a power loss
            entry = json.loads(line)
            lines.append(LogLine(t=entry["t"], stream=entry["s"], text=entry["l"]))
    return lines
