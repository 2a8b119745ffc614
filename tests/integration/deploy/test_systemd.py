"""The manager under systemd, as far as it goes without one: its datagrams, and the signals of deploy/opmas.service."""

import configparser
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import PATIENCE_S, ROOT, ManagerProcess, exists, until, write_package

SLEEPER = {"command": ["sleep", "1000"], "heartbeat": "process"}


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(PATIENCE_S)

    def until(self, line: str) -> None:
        while line not in self._socket.recv(4096).decode().splitlines():
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def unit() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the documentation of configparser says
    parser.read(ROOT / "deploy" / "opmas.service")
    return dict(parser["Service"])


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(str(tmp_path / "notify"))
    yield one
    one.close()


@pytest.fixture
def manager(tmp_path: Path, nats_url: str) -> Iterator[ManagerProcess]:
    one = ManagerProcess(
        tmp_path, nats_url, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000", OPMAS_MANAGER__NODE="unit"
    )
    write_package(one.packages, "sleeper", **SLEEPER)
    yield one
    one.close()


def pid_of(manager: ManagerProcess) -> int:
    return int(until(lambda: _pids(manager), "the sleeper")[0])


def _pids(manager: ManagerProcess) -> list[str]:
    """Find the agent's own process: the sleep, not its shim."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if words.startswith(b"sleep\0") and str(manager.home).encode() in environment:
            found.append(entry.name)
    return found


def test_a_restart_of_the_unit_keeps_the_agents_and_a_stop_ends_them(
    manager: ManagerProcess, systemd: Systemd, unit: dict[str, str]
) -> None:
    assert unit["KillMode"] == "process"
    manager.start(listening=False)
    systemd.until("READY=1")
    systemd.until("WATCHDOG=1")
    systemd.until("WATCHDOG=1")
    agent = pid_of(manager)

    manager.signal(signal.Signals[unit["RestartKillSignal"]])
    systemd.until("STOPPING=1")
    assert manager.wait() == 0
    assert exists(agent)

    manager.start(listening=False)
    systemd.until("READY=1")
    assert pid_of(manager) == agent

    manager.signal(signal.Signals[unit["KillSignal"]])
    assert manager.wait() == 0
    assert not exists(agent)


def test_nobody_hears_of_the_notify_socket_but_the_manager(manager: ManagerProcess, systemd: Systemd) -> None:
    manager.start(listening=False)
    systemd.until("READY=1")
    agent = pid_of(manager)

    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{agent}/environ").read_bytes()
    os.kill(agent, signal.SIGKILL)
    manager.stop()
