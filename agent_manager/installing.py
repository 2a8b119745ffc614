"""Finds out which packages requirements stand for, and installs them into a folder: by uv, or by pip where uv fails.

uv is ten times as fast; pip knows ways to a registry that uv does not. Each step is a process of its own, whose output
goes to a log. Nothing of the manager's environment reaches it but what is about finding packages: a package that is
built runs code of its own.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import site
import sys
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

import opmas
from agent_manager.ending import CANNOT_INSTALL
from agent_manager.pip_settings import has_no_index, pip_options, uv_environment
from opmas.wire.errors import OpmasError

_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NETRC", "CC", "CXX"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)
# What the SDK imports: in an agent's venv these may be others than ours, but none that it cannot work with.
_OF_THE_SDK = frozenset({"agno", "jsonschema", "nats-py", "pydantic", "pyyaml", "setproctitle"})
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?P<versions>[^;]*)$")
_SHOWN_LINES, _SHOWN_CHARS = 8, 400


class InstallFailed(OpmasError):
    """An agent's dependencies cannot be installed; trying again as things are would fail again."""

    code, status = "cannot_install", 409

    def __init__(self, why: str, log: Path) -> None:
        super().__init__(
            f"{CANNOT_INSTALL}: {why}", f"correct `dependencies`, or start the agent again; all that was said: {log}"
        )


def sdk_constraints() -> list[str]:
    """The versions of shared packages that the SDK works with, in pip's words."""
    matches = (_REQUIREMENT.match(each) for each in importlib.metadata.requires("opmas") or ())
    return sorted(f"{m['name']}{m['versions']}" for m in matches if m and m["name"].lower() in _OF_THE_SDK)


@dataclass(frozen=True, slots=True)
class Installer:
    """One installation: `cwd` is where relative paths are seen from, `work` a folder to write in."""

    cwd: Path
    work: Path
    log: Path

    async def resolve(self, requirements: Path, constraints: Path) -> str:
        """Pin everything that `requirements` need. Raises `InstallFailed` with the resolver's last words."""
        lock = self.work / "lock"
        words = ["compile", str(requirements), "-c", str(constraints), "-o", str(lock)]
        quiet = ["--no-header", "--no-annotate", "--quiet", "--python", sys.executable]
        try:
            await self._uv(*words, *quiet)
            return await asyncio.to_thread(lock.read_text, encoding="utf-8")
        except InstallFailed as failure:
            report = self.work / "report.json"
            words = ["--dry-run", "--ignore-installed", "--report", str(report), "-r", str(requirements)]
            if not await self._pip(sys.executable, *words, "-c", str(constraints)):
                raise failure from None
            return _pinned(json.loads(await asyncio.to_thread(report.read_text, encoding="utf-8")))

    async def install(self, lock: Path, target: Path) -> None:
        """Make a venv at `target` that holds what `lock` pins, and below it what OPMAS is installed with."""
        await self._run(sys.executable, "-m", "venv", "--without-pip", str(target))
        python = str(target / "bin" / "python")
        try:
            words = ["--link-mode", "copy", "--no-deps", "--compile-bytecode", "--python", python]
            await self._uv("install", "--quiet", *words, "-r", str(lock))
        except InstallFailed:
            if not await self._pip(python, "--no-deps", "-r", str(lock)):
                raise
        await asyncio.to_thread(_lay_above_ours, target)

    async def _uv(self, *words: str) -> None:
        options = await asyncio.to_thread(pip_options, os.environ)
        index = ["--no-index"] if has_no_index(options) else []
        try:
            program = find_uv_bin()
        except FileNotFoundError as error:
            raise InstallFailed(f"uv is not installed: {error}", self.log) from None
        said = uv_environment(os.environ, options)
        if not os.environ.keys() & {"UV_CACHE_DIR", "XDG_CACHE_HOME"} and not os.access(Path.home(), os.W_OK):
            said["UV_CACHE_DIR"] = str(self.work.parent / "cache")  # a service's user may have no home
        await self._run(program, "pip", *words, *index, **said)

    async def _pip(self, python: str, *words: str) -> bool:
        """Run `pip install` for an interpreter; say whether there is a pip and it succeeded."""
        own = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") is not None else []
        pip = own or [found for found in (shutil.which("pip3") or shutil.which("pip"),) if found]
        if not pip:
            return False
        try:
            await self._run(*pip, "--python", python, "install", "--quiet", "--retries", "1", *words)
        except InstallFailed:
            return False
        return True

    async def _run(self, *argv: str, **environment: str) -> None:
        env = {name: value for name, value in os.environ.items() if _is_about_packages(name)} | environment
        start = await asyncio.to_thread(_size, self.log)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(await asyncio.to_thread(self.log.open, "ab"))
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv, env=env, cwd=self.cwd, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise InstallFailed(f"cannot run {argv[0]}: {error.strerror}", self.log) from error
        try:
            code = await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            raise
        if code != 0:
            raise InstallFailed(await asyncio.to_thread(_last_words, self.log, start), self.log)


def _is_about_packages(name: str) -> bool:
    return name in _PASSED_ON or name.startswith(("UV_", "PIP_"))


def _pinned(report: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    """Write pip's report as requirements."""
    lines = []
    for each in report["install"]:
        name = each["metadata"]["name"]
        direct = each.get("is_direct")
        lines.append(f"{name} @ {each['download_info']['url']}" if direct else f"{name}=={each['metadata']['version']}")
    return "".join(f"{line}\n" for line in sorted(lines))


def _lay_above_ours(target: Path) -> None:
    """Let the venv's interpreter find the SDK behind all that the venv has itself."""
    (folder,) = target.glob("lib/python*/site-packages")
    ours = [path for path in dict.fromkeys((*site.getsitepackages(), *sys.path)) if path.endswith("-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    lines.append(str(Path(opmas.__file__).parents[1]))  # when it runs from where it is written
    (folder / "zz_opmas.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _size(log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return log.stat().st_size if log.exists() else 0


def _last_words(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    shown = [line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]} … [cut]" for line in lines[-_SHOWN_LINES:]]
    return "\n".join(shown) or "the installer said nothing"
