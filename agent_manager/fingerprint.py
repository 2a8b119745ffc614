"""A folder's fingerprint: it differs when a file in it was added, changed or removed, and costs no reading of files.

What programs leave behind while they run (caches, logs, databases) and what editors do for a moment is no change.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_NOISY_NAMES = frozenset({"__pycache__", "node_modules", "logs", "4913"})  # 4913: vim tries whether it may write
_NOISY_ENDS = (".pyc", ".pyo", "~", ".swp", ".swo", ".swx", ".tmp", ".log", ".pid", ".sock")
_DATABASES = (".db", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal")
_MOST_FILES = 10_000  # a package with more has a tree of data in it; the manifest and the code come first by name


def is_noise(name: str) -> bool:
    """Say whether a file or folder of this name tells nothing about its package; of dot-names, only `.env*` does."""
    hidden = name.startswith(".") and not name.startswith(".env")
    return hidden or name in _NOISY_NAMES or name.endswith(_NOISY_ENDS + _DATABASES)


def fingerprint(folder: Path) -> str:
    """Digest the names, sizes and times of all files in `folder`. Blocking."""
    digest = hashlib.sha256()
    for count, entry in enumerate(_walk(folder)):
        if count == _MOST_FILES:
            break
        try:
            facts = entry.stat()
        except OSError:  # a link to nowhere, or gone since
            continue
        digest.update(f"{entry.path}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_mode}\n".encode(errors="replace"))
    return digest.hexdigest()


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    folders: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_noise(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            else:
                yield entry
    for entry in folders:
        try:
            yield from _walk(entry.path)
        except PermissionError:
            continue
