"""The shim's side of an instance's log: bytes from two pipes become JSON lines `{t, s: out|err, l}` in bounded files.

Never dies for want of disk and never stops reading: what cannot be written is dropped, counted, and told in the log
when there is room again. Standard library only. Read by `logfile`, in the manager.
"""

import contextlib
import errno
import json
import os
import time

LINE_BYTES = 256 * 1024  # what is kept of one line: a print without end must fill neither the memory nor the log
FLUSH_BYTES = 64 * 1024

_quote = json.JSONEncoder(ensure_ascii=False).encode


class _OpenLine:
    """What has come so far of a line that has not ended."""

    __slots__ = ("dropped", "kept")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.dropped = 0

    def extend(self, piece: bytes) -> None:
        room = LINE_BYTES - len(self.kept)
        self.kept += piece[:room]
        self.dropped += max(0, len(piece) - room)

    def take(self) -> str:
        text = self.kept.decode(errors="replace")
        if self.dropped:
            text += f" [cut: {self.dropped} more bytes]"
        self.kept.clear()
        self.dropped = 0
        return text


class LogWriter:
    """Appends to `path`, and moves it to `path.1`, … when it is full; the oldest of `max_files` goes."""

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._open_lines = {"out": _OpenLine(), "err": _OpenLine()}
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._lost = 0
        self._why_lost: str | None = None
        self._fd = -1
        self._size = 0

    def write(self, stream: str, data: bytes) -> None:
        """Take what came from a pipe; whole lines are in the file, or counted as lost, when it returns."""
        now = time.time()
        line = self._open_lines[stream]
        *ended, rest = data.split(b"\n")
        for piece in ended:
            line.extend(piece)
            self._add(now, stream, line.take())
        line.extend(rest)
        self._flush()

    def close(self) -> None:
        """Write what has come of lines that never ended."""
        for stream, line in self._open_lines.items():
            if line.kept:
                self._add(time.time(), stream, line.take())
        self._flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _add(self, t: float, stream: str, text: str) -> None:
        entry = _entry(t, stream, text)
        if self._size + self._pending_bytes + len(entry) > self._max_bytes:
            self._flush()
            self._rotate()
        self._pending.append(entry)
        self._pending_bytes += len(entry)
        if self._pending_bytes > FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        if self._lost:
            told = f"[{self._lost} lines lost: cannot write the log: {self._why_lost}]"
            lines.insert(0, _entry(time.time(), "err", told))
        try:
            self._append(b"".join(lines))
        except OSError as error:
            self._lost += len(lines) - (self._lost > 0)
            self._why_lost = error.strerror
        else:
            self._lost = 0

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            self._open()
        if os.write(self._fd, data) < len(data):
            os.ftruncate(self._fd, self._size)  # half a line would make the next one unreadable
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(data)

    def _open(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = os.fstat(fd).st_size
            if self._size and os.pread(fd, 1, self._size - 1) != b"\n":  # the last shim was killed in a write
                self._size += os.write(fd, b"\n")
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def _rotate(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._size = 0
        names = [self._path, *(f"{self._path}.{n}" for n in range(1, self._max_files))]
        with contextlib.suppress(OSError):  # then it grows until a rotation succeeds
            if len(names) == 1:
                os.unlink(self._path)
            for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(newer, older)


def _entry(t: float, stream: str, text: str) -> bytes:
    return f'{{"t":{t:.6f},"s":"{stream}","l":{_quote(text)}}}\n'.encode()
