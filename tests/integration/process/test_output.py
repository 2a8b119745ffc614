"""What instances print, however they do it, costs little and is bounded; and followers see each line once."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_manager.process.slot import Slot
from tests.integration.process.yard import PATIENCE_S, Yard, lines_of, until


async def test_a_hundred_megabytes_without_a_newline_are_harmless(yard: Yard) -> None:
    shim = await yard.spawn("flood", "long_line")
    peak_kb = 0

    def done() -> bool:
        nonlocal peak_kb
        peak_kb = max(peak_kb, _anonymous_kb(shim.pid))
        return shim.slot.read_exit() is not None

    await until(done)

    lines = lines_of(shim)
    assert len(lines) == 2
    assert lines[0] == "x" * 262_144 + f" [cut: {100_000_000 - 262_144} more bytes]"
    assert lines[1] == "\ufffd\ufffd ok"
    assert peak_kb < 20_000


async def test_a_follower_sees_every_line_once_across_rotation(yard: Yard) -> None:
    shim = await yard.spawn("talker", "many_lines", log_max_bytes=100_000, log_max_files=100)
    seen: list[str] = []
    cursor = ""
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < 20_000:
            lines, cursor = shim.slot.log.read_since(cursor)
            seen.extend(line.text for line in lines)
            await asyncio.sleep(0)
        await shim.wait()

    assert seen == [str(number) for number in range(20_000)]
    assert lines_of(shim, 3000) == seen[-3000:]
    assert len(list(shim.slot.path.glob("log.*"))) > 5
    assert max(file.stat().st_size for file in shim.slot.path.glob("log*")) <= 100_000


async def test_only_so_many_files_are_kept(yard: Yard) -> None:
    shim = await yard.spawn("talker", "many_lines", log_max_bytes=50_000, log_max_files=3)
    async with asyncio.timeout(PATIENCE_S):
        await shim.wait()

    assert sorted(file.name for file in shim.slot.path.glob("log*")) == ["log", "log.1", "log.2"]
    assert lines_of(shim)[-1] == "19999"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def test_a_full_disk_costs_lines_but_neither_the_instance_nor_its_record(yard: Yard, small_disk: Path) -> None:
    slot = Slot(small_disk / "slot")
    slot.path.mkdir()
    gate, printed = yard.home / "gate", yard.home / "printed"
    script = f"echo before; echo go; read x < {gate}; seq 1000; : > {printed}; read x < {gate}; echo after; exit 6"
    os.mkfifo(gate)
    shim = await yard.run("squeezed", argv=("sh", "-c", script), slot_dir=str(slot.path))
    fill = small_disk / "fill"
    _fill_up(fill)
    await until(lambda: gate.write_text("\n"))  # seq runs against the full disk
    await until(lambda: printed.exists() and _has_taken_all(shim.pid, shim.state.pid))
    fill.unlink()
    await until(lambda: gate.write_text("\n"))
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()

    assert ended is not None
    assert ended.code == 6
    lines = lines_of(shim)
    assert lines[:2] == ["before", "go"]
    assert lines[-2].endswith("lines lost: cannot write the log: No space left on device]")
    assert lines[-1] == "after"
    lost = int(lines[-2].split()[0].removeprefix("["))
    assert len(lines[2:-2]) + lost == 1000


def _anonymous_kb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])
    except (OSError, IndexError):  # it has ended
        return 0


def _fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def _has_taken_all(shim: int, instance: int) -> bool:
    """Say whether the pipe is empty and the shim sleeps: then what it took from there, it has tried to write."""
    pipe = os.open(f"/proc/{instance}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(pipe)
    return waiting == 0 and Path(f"/proc/{shim}/stat").read_text().rpartition(")")[2].split()[0] == "S"
