"""One whole OPMAS for the tests of this folder, `opmas up` itself, and a way to type commands at it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opmas.cli.app import run

OPMAS = Path(sys.executable).with_name("opmas")
_ECHO = Path(__file__).parents[3] / "packages" / "echo"
_STARTS_WITHIN_S = 30.0
_OWN = ("OPMAS_", "NATS_", "DATABASE_URL", "NO_COLOR")

_PACKAGES = {
    "talker": {
        "agent.yaml": "name: talker\ncommand: [sh, talk.sh]\nheartbeat: process\nautostart: false\n",
        "talk.sh": "n=0\nwhile :; do n=$((n+1)); echo said $n; echo erred $n >&2; sleep 0.2; done\n",
    },
    "faller": {
        "agent.yaml": "name: faller\ncommand: [sh, fall.sh]\nautostart: false\nrestart: {condition: never}\n",
        "fall.sh": "echo 'these were my last words' >&2\nexit 3\n",
    },
    "broken": {"agent.yaml": "name: broken\nentrypont: agent.py\n"},
}


@dataclass(frozen=True)
class Shell:
    """A shell in which `opmas` finds one data directory and nothing else."""

    env: dict[str, str]

    def __call__(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Type a command and wait for its end."""
        return subprocess.run(
            [OPMAS, *words], env=self.env | more, capture_output=True, text=True, timeout=60, check=False
        )


@dataclass(frozen=True)
class Ended:
    """How a command ended, in the words of `CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


Typed = Callable[..., Ended]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command into a shell without starting a process for it: the same code, a tenth of the time."""

    def type_(shell: Shell, *words: str, **more: str) -> Ended:
        for name in [name for name in os.environ if name.startswith(_OWN)]:
            monkeypatch.delenv(name)
        for name, value in (shell.env | more).items():
            monkeypatch.setenv(name, value)
        code = run(list(words))
        return Ended(int(code), *capsys.readouterr())

    return type_


def shell(folder: Path, **settings: str) -> Shell:
    """Make a shell in which data lies in `folder/home` and packages in `folder/packages`, whatever the machine says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return Shell(clean | {"OPMAS_HOME": str(folder / "home"), "OPMAS_PACKAGES": str(folder / "packages"), **settings})


@pytest.fixture
def alone(tmp_path: Path, free_port: Callable[[], int]) -> Shell:
    """Give a shell whose OPMAS has never been started."""
    return shell(tmp_path, OPMAS_API__PORT=str(free_port()), OPMAS_API__AGENTOS_PORT=str(free_port()))


@pytest.fixture(scope="package")
def opmas(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Shell]:
    """Run `opmas up` with a package from `opmas init`, one that takes runs, and a few that misbehave."""
    folder = Path(tmp_path_factory.mktemp("opmas"))
    names = ("OPMAS_API__PORT", "OPMAS_API__AGENTOS_PORT", "OPMAS_NATS__PORT")
    typed = shell(folder, **{name: str(free_port()) for name in names})
    assert typed("init", "greeter").returncode == 0
    shutil.copytree(_ECHO, folder / "packages" / "echo")
    for name, files in _PACKAGES.items():
        (folder / "packages" / name).mkdir()
        for file, text in files.items():
            (folder / "packages" / name / file).write_text(text)
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen([OPMAS, "up"], env=typed.env, stdout=log, stderr=log)
    try:
        _until_up(typed, up, folder / "up.log")
        yield typed
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(30)
        finally:
            up.kill()
            up.wait()


def _until_up(typed: Shell, up: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and up.poll() is None:
        if typed("wait", "greeter", "--timeout", "1").returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"opmas up did not come up: {log.read_text()[-2000:]}")
