"""The venvs of agents with `isolation: venv`: one for each set of pinned packages, shared by all that need that set.

Which versions requirements stand for is found out once and remembered, until the requirements change: starting an
agent again needs no registry and gives it what it had. A venv is filled in a folder of another name and renamed when it
is whole, so that what has its name can be used, whenever a manager may have died.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent_manager.installing import Installer, InstallFailed, sdk_constraints
from agent_manager.package import Package
from opmas.wire.errors import OpmasError
from opmas.wire.manifest import Manifest, Runtime

log = structlog.get_logger(__name__)

# A package with much to compile may need minutes.
_DEADLINE_S = 900.0
_KEPT_S = 86_400.0
_LOCK = "opmas.lock"  # in a venv: what it holds; its time is when the venv was last used
# A requirements file with these depends on other files, too: each change of the package makes it another one.
_LOOKS_ELSEWHERE = ("-", ".", "/", "file:")


@dataclass(frozen=True, slots=True)
class _Need:
    """What an agent needs installed. `key`: digest of all that decides about it, without asking a registry."""

    package: Package
    text: str
    file: Path | None
    constraints: tuple[str, ...]
    salt: str

    @property
    def key(self) -> str:
        return _digest(self.text, *self.constraints, self.salt)


class Venvs:
    """Finds and makes venvs below one folder."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self._folder = folder
        self._tasks = tasks
        self._building: dict[str, asyncio.Task[Path | InstallFailed]] = {}

    async def find(self, package: Package, manifest: Manifest) -> "Path | asyncio.Task[Path | InstallFailed]":
        """Return the venv that an agent needs, or the task that makes it, which others may be waiting for as well."""
        need = await asyncio.to_thread(_need, package, manifest)
        found = await asyncio.to_thread(self._made, need)
        if found is not None:
            return found
        task = self._building.get(need.key)
        if task is None:
            task = self._tasks.create_task(self._build(need), name=f"venv-{need.key}")
            self._building[need.key] = task
            task.add_done_callback(lambda _: self._building.pop(need.key))
        return task

    def clean(self, in_use: Set[Path]) -> list[Path]:
        """Remove what no living instance uses and nobody has started from for a day. Blocking."""
        removed = []
        for folder in self._folder.glob("*"):
            if folder.name in {"locks", "logs"} or folder in in_use:
                continue
            with suppress(OSError):  # it is for the next time, then
                lock = folder / _LOCK
                if time.time() - (lock if lock.exists() else folder).stat().st_mtime > _KEPT_S:
                    doomed = folder.with_name(f".removed-{secrets.token_hex(4)}")
                    folder.rename(doomed)
                    removed.append(folder)
                    shutil.rmtree(doomed, ignore_errors=True)
        return removed

    def _made(self, need: _Need) -> Path | None:
        try:
            lock = (self._folder / "locks" / need.key).read_text(encoding="utf-8")
            venv = self._venv(need, lock)
            os.utime(venv / _LOCK)
        except OSError:
            return None
        return venv

    def _venv(self, need: _Need, lock: str) -> Path:
        return self._folder / _digest(lock, need.salt)

    async def _build(self, need: _Need) -> Path | InstallFailed:
        output = self._folder / "logs" / f"{need.key}.log"
        work = self._folder / f".building-{secrets.token_hex(4)}"
        log.info("venv_begun", agent=need.package.name, log=str(output))
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await asyncio.to_thread(_begin, work, output, need)
                venv = await self._fill(need, Installer(need.package.folder, work, output))
        except TimeoutError:
            return InstallFailed(f"it took longer than {_DEADLINE_S:g} s", output)
        except InstallFailed as failure:
            return failure
        except OSError as error:
            return InstallFailed(f"{error.filename}: {error.strerror}", output)
        except Exception as error:
            # The edge where one agent's installation ends: what a package or a registry says must not end the manager.
            log.exception("venv_failed", agent=need.package.name)
            return InstallFailed(f"{type(error).__name__}: {error}", output)
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        log.info("venv_made", agent=need.package.name, venv=str(venv))
        return venv

    async def _fill(self, need: _Need, installer: Installer) -> Path:
        remembered = self._folder / "locks" / need.key
        work = installer.work
        if await asyncio.to_thread(remembered.exists):
            lock = await asyncio.to_thread(remembered.read_text, encoding="utf-8")
        else:
            lock = await installer.resolve(need.file or work / "requirements.in", work / "constraints")
        venv = self._venv(need, lock)
        pins = work / "pins"
        await asyncio.to_thread(pins.write_text, lock, encoding="utf-8")
        if not await asyncio.to_thread((venv / _LOCK).exists):
            await installer.install(pins, work / "venv")
            await asyncio.to_thread(_settle, work / "venv", venv, lock)
        await asyncio.to_thread(_keep, pins, remembered, venv)
        return venv


def _need(package: Package, manifest: Manifest) -> _Need:
    wanted = manifest.dependencies
    file = None if wanted.file is None else package.folder / wanted.file
    try:
        text = "\n".join(sorted(wanted.packages)) if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpmasError(f"cannot read {file}: {error}", "put the file back, or correct `dependencies`") from error
    elsewhere = any(line.strip().startswith(_LOOKS_ELSEWHERE) or "file:" in line for line in text.splitlines())
    # A program of its own need not be able to import the SDK.
    constraints = () if manifest.runtime is Runtime.EXEC else tuple(sdk_constraints())
    return _Need(package, text, file, constraints, package.digest if elsewhere else "")


def _digest(*parts: str) -> str:
    # Another Python, or OPMAS installed elsewhere, makes other venvs.
    whole = "\0".join((sys.version, sys.prefix, *parts))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _begin(work: Path, output: Path, need: _Need) -> None:
    for folder in (work, output.parent, work.parent / "locks"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    output.unlink(missing_ok=True)
    (work / "requirements.in").write_text(need.text, encoding="utf-8")
    (work / "constraints").write_text("\n".join(need.constraints), encoding="utf-8")


def _settle(made: Path, venv: Path, lock: str) -> None:
    """Give a whole venv its name, which its programs begin with."""
    for program in (made / "bin").iterdir():
        if program.is_file() and not program.is_symlink():
            content = program.read_bytes()
            program.write_bytes(content.replace(os.fsencode(made), os.fsencode(venv)))
    (made / _LOCK).write_text(lock, encoding="utf-8")
    made.rename(venv)


def _keep(pins: Path, remembered: Path, venv: Path) -> None:
    pins.replace(remembered)
    os.utime(venv / _LOCK)
