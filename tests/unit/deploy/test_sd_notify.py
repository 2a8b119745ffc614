"""What systemd hears of the manager, on both kinds of socket that it may name."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_manager.sd_notify import READY, keep_alive, notify


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name if request.param == "file" else f"\0{name}")
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "file" else f"@{name}")
        yield receiver


def test_systemd_hears_all_lines_in_one_datagram(systemd: socket.socket) -> None:
    notify(READY, "STATUS=3 agents")

    assert systemd.recv(4096) == b"READY=1\nSTATUS=3 agents"


async def test_the_watchdog_hears_us_again_and_again(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        alive = tasks.create_task(keep_alive(), name="watchdog")
        for _ in range(3):
            assert await asyncio.to_thread(systemd.recv, 4096) == b"WATCHDOG=1"
        alive.cancel()


@pytest.mark.parametrize("watched", [{}, {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}])
async def test_a_watchdog_that_watches_nobody_or_another_is_left_alone(
    watched: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in watched.items():
        monkeypatch.setenv(name, value)
    async with asyncio.timeout(10):
        await keep_alive()


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@opmas-nobody-listens", "x" * 200])
def test_nobody_who_listens_is_no_reason_to_fail(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify(READY)
