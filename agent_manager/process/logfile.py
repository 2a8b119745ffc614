"""The manager's side of an instance's log: the last lines, and all that follows, across rotation and adoption.

Written by `logwriter`, in the shim.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 1 << 20  # per call: bounds what one follower costs the manager


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output: `t` in unix seconds, `stream` is `out` or `err`."""

    t: float
    stream: str
    text: str


class LogReader:
    """Reads `log`, `log.1`, … of one slot. Holds no file open; a cursor is all a follower must keep."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
