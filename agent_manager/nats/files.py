"""Private files, written whole or not at all."""

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace `path` by a 0600 file holding `text`; `durable` makes it survive a power loss."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    Path(temporary).replace(path)
    if durable:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
