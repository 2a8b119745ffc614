"""What installs a venv: uv, and pip where uv fails. Offline."""

import asyncio
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_manager.installing import Installer, InstallFailed
from tests.integration.venvs.wheels import write_wheel


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    write_wheel(tmp_path / "wheels", "tinypack", "1.0")
    write_wheel(tmp_path / "wheels", "needy", "1.0", requires="tinypack")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    (tmp_path / "constraints").write_text("")
    return Installer(tmp_path, tmp_path / "work", tmp_path / "logs" / "log")


async def made(installer: Installer, requirements: str) -> tuple[str, Path]:
    """Resolve and install; return the lock and the venv."""
    (installer.cwd / "needs.txt").write_text(requirements)
    async with asyncio.timeout(120):
        lock = await installer.resolve(installer.cwd / "needs.txt", installer.cwd / "constraints")
        (installer.work / "pins").write_text(lock)
        await installer.install(installer.work / "pins", installer.cwd / "venv")
    return lock, installer.cwd / "venv"


def says(venv: Path, code: str) -> str:
    return subprocess.run(
        [venv / "bin" / "python", "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd="/"
    ).stdout.strip()


async def test_a_venv_has_what_was_asked_for_with_all_it_needs_above_what_opmas_has(installer: Installer) -> None:
    write_wheel(installer.cwd / "wheels", "structlog", "1.0")
    lock, venv = await made(installer, "needy\nstructlog\n")

    assert sorted(lock.split()) == ["needy==1.0", "structlog==1.0", "tinypack==1.0"]
    words = await asyncio.to_thread(
        says, venv, "import needy, structlog, tinypack, opmas.agent, nats; print(tinypack.VERSION, structlog.VERSION)"
    )
    assert words == "1.0 1.0"


async def test_a_wheel_in_the_package_is_found_from_the_package(installer: Installer) -> None:
    write_wheel(installer.cwd / "own", "mine", "3.0")
    _, venv = await made(installer, "./own/mine-3.0-py3-none-any.whl\n")

    assert await asyncio.to_thread(says, venv, "import mine; print(mine.VERSION)") == "3.0"


@pytest.mark.skipif(
    not (importlib.util.find_spec("pip") or shutil.which("pip3") or shutil.which("pip")), reason="there is no pip here"
)
async def test_pip_installs_what_uv_cannot_find(installer: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(installer.work))  # uv's own setting stands above pip's
    lock, venv = await made(installer, "needy\n")

    assert sorted(lock.split()) == ["needy==1.0", "tinypack==1.0"]
    assert await asyncio.to_thread(says, venv, "import tinypack; print(tinypack.VERSION)") == "1.0"


async def test_what_neither_finds_is_told_in_uvs_words(installer: Installer) -> None:
    with pytest.raises(
        InstallFailed, match=r"(?s)^cannot install its dependencies: .*no version of tinypack==7"
    ) as refused:
        await made(installer, "tinypack==7\n")

    assert str(installer.log) in refused.value.hint
