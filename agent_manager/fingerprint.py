"""A folder's fingerprint: it differs when a file in it was added, changed or removed, and costs no reading of files.

What programs leave behind while they run (caches, logs, databases) and what editors do for a moment is no change.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

# 4913: vim tries whether it may write.
_NOISY_NAMES = frozenset({"__pycache__", "node_modules", "venv", "logs", "4913"})
_NOISY_ENDS = (".pyc", ".pyo", "~", ".swp", ".swo", ".swx", ".tmp", ".log", ".pid", ".sock")
_DATABASES = (".db", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal")
_MOST_FILES = 10_000  # a package with more has a tree of data in it; the manifest and the code come first by name


def is_noise(name: str) -> bool:
    """Say whether a file or folder of this name tells nothing about its package; of dot-names, only `.env*` does."""
    hidden = name.startswith(".") and not name.startswith(".env")
    return hidden or name in _NOISY_NAMES or name.endswith(_NOISY_ENDS + _DATABASES)


def look_at(folder: Path) -> dict[str, str]:
    """Note size, time and mode of all files in `folder`, by their paths in it. Blocking."""
    files: dict[str, str] = {}
    for entry in _walk(folder):
        if len(files) == _MOST_FILES:
            break
        try:
            facts = entry.stat()
        except OSError:  # a link to nowhere, or gone since
            continue
        files[os.path.relpath(entry.path, folder)] = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_mode}"
    return files


def fingerprint(files: Mapping[str, str]) -> str:
    """Digest what `look_at` has seen."""
    digest = hashlib.sha256()
    for path, facts in files.items():
        digest.update(f"{path}\0{facts}\n".encode(errors="replace"))
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
