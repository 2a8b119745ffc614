"""From a spec to a process: what an instance finds, and what is said when there can be none."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from agent_manager.process.errors import PreloadRefused, SlotBusy, SpawnFailed
from agent_manager.process.launcher import Template
from agent_manager.process.spec import Limits
from tests.integration.process.yard import AGENTS, PATIENCE_S, Yard, lines_of, until


async def test_a_fork_finds_its_own_world_and_nothing_of_the_daemons(yard: Yard) -> None:
    env = {"PATH": "/usr/bin:/bin", "TOKEN": "s3cret", "TZ": "Asia/Tokyo"}
    shim = await yard.spawn("echo", "report", env=env, limits=Limits(nofile=512))
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()

    found = json.loads(lines_of(shim)[0])
    assert ended is not None
    assert ended.code == 0
    slot = str(shim.slot.path)
    assert found["environ"] == env | {"OPMAS_SLOT": slot}
    assert "s3cret" not in found["proc_environ"]
    assert found["cwd"] == str(yard.home)
    assert found["umask"] == 0o077
    assert list(found["fds"].values()) == [f"{slot}/lock"]
    assert found["stdin"] == "/dev/null"
    assert found["comm"] == "opmas: echo-0"
    assert found["timezone"] == "JST"
    assert found["leads_session"]
    assert found["sigterm"]
    assert found["blocked"] == []
    assert found["core"] == 0
    assert found["nofile"] == 512
    assert not found["new_privileges"]
    assert found["tasks"] == 1


async def test_an_executed_program_has_clean_descriptors_and_signals(yard: Yard) -> None:
    script = "ls -l /proc/$$/fd | grep -o -- '->.*'; grep -E 'SigIgn|SigBlk' /proc/self/status; exit 4"
    shim = await yard.spawn("script", argv=("sh", "-c", script))
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()

    assert ended is not None
    assert ended.code == 4
    *descriptors, blocked, ignored = (line for line in lines_of(shim) if "pipe:" not in line)
    assert descriptors == ["-> /dev/null", f"-> {shim.slot.path}/lock"]
    assert int(blocked.removeprefix("SigBlk:"), 16) == 0
    # 32 and 33 belong to the C library, which lets nobody reset them: what starts programs by posix_spawn, as make
    # does, hands them on ignored.
    assert int(ignored.removeprefix("SigIgn:"), 16) & ~(0b11 << 31) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"argv": ("nosuch",)}, "cannot execute nosuch: no such program in PATH (/usr/bin:/bin)"),
        ({"argv": ("/nosuch",)}, "cannot execute /nosuch: no such program"),
        ({"argv": ("./orphan",)}, "cannot execute ./orphan: the interpreter in its first line does not exist"),
        (
            {"argv": ("true",), "cwd": "/nosuch"},
            "cannot enter the working directory /nosuch: No such file or directory",
        ),
    ],
)
async def test_a_program_that_cannot_start_says_why_in_its_exit_record(
    yard: Yard, fields: dict[str, object], reason: str
) -> None:
    orphan = yard.home / "orphan"
    orphan.write_text("#!/nosuch/interpreter\n")
    orphan.chmod(0o755)

    shim = await yard.spawn("nope", **fields)
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()

    assert ended is not None
    assert (ended.code, ended.error) == (127, reason)


@pytest.mark.parametrize(
    ("entry", "code", "last_line"),
    [
        ("fail", 1, "RuntimeError: nothing works today"),
        ("leave_with_three", 3, ""),
        ("leave_with_words", 1, "no such file"),
        ("nosuch", 1, f"AttributeError: module '{AGENTS}' has no attribute 'nosuch'"),
    ],
)
async def test_a_fork_ends_as_a_script_would(yard: Yard, entry: str, code: int, last_line: str) -> None:
    shim = await yard.spawn("ends", entry)
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()

    assert ended is not None
    assert (ended.code, ended.error) == (code, None)
    assert (lines_of(shim) or [""])[-1] == last_line


async def test_a_slot_takes_one_of_ten_simultaneous_starts(yard: Yard) -> None:
    spec = yard.spec("single", "idle")
    async with asyncio.timeout(PATIENCE_S):
        results = await asyncio.gather(*(yard.template.spawn(spec) for _ in range(10)), return_exceptions=True)

    started = [each for each in results if not isinstance(each, BaseException)]
    refused = [each for each in results if isinstance(each, SlotBusy)]
    assert (len(started), len(refused)) == (1, 9)
    with pytest.raises(SlotBusy) as caught:
        await yard.template.spawn(spec)
    assert caught.value.holders == [started[0].pid, started[0].state.pid]
    started[0].close()


async def test_a_slot_that_cannot_be_used_fails_the_spawn(yard: Yard) -> None:
    spec = yard.spec("gone", "idle")
    os.rmdir(spec.slot_dir)

    with pytest.raises(SpawnFailed, match="cannot start gone-0: No such file or directory"):
        await yard.template.spawn(spec)


async def test_a_state_that_cannot_be_written_keeps_the_instance_from_running(yard: Yard) -> None:
    spec = yard.spec("mute", "idle")
    os.mkdir(Path(spec.slot_dir, "state.new"))  # where a file is to be written

    with pytest.raises(SpawnFailed, match="cannot start mute-0"):
        await yard.template.spawn(spec)

    assert "log" not in os.listdir(spec.slot_dir)


async def test_instances_outlive_their_template(yard: Yard) -> None:
    shim = await yard.run("survivor", "ticker")
    os.kill(yard.template.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        await yard.template.closed.wait()

    seen = len(lines_of(shim))
    await until(lambda: len(lines_of(shim)) > seen)
    with pytest.raises(SpawnFailed, match="the template is gone"):
        await yard.spawn("late", "idle")
    shim.close()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (f"{AGENTS}:start_thread", "it starts 1 thread(s) (eager), and a process with threads cannot be forked"),
        ("nosuch_module", "ModuleNotFoundError: No module named 'nosuch_module'"),
    ],
)
async def test_a_preload_that_cannot_be_forked_is_refused_by_name(tmp_path: Path, item: str, reason: str) -> None:
    with pytest.raises(PreloadRefused) as caught:
        await Template.start(("json", item), tmp_path / "template.log")

    assert caught.value.module == item
    assert caught.value.reason == reason


async def test_no_two_forks_draw_the_same_random_numbers(yard: Yard) -> None:
    shims = [await yard.spawn(f"draw-{number}", "draw") for number in range(3)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(shim.wait() for shim in shims))

    assert len({lines_of(shim)[0] for shim in shims}) == 3
