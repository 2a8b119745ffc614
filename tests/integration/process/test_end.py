"""The end of an instance: asked for, forced, or brought about by others. Nothing of it is left."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agent_manager.process import procfs
from agent_manager.process.slot import Shim, SlotExit
from tests.integration.process.yard import PATIENCE_S, Yard, ended_or_zombie, lines_of, until


async def ended(shim: Shim) -> SlotExit:
    async with asyncio.timeout(PATIENCE_S):
        found = await shim.wait()
    assert found is not None
    assert procfs.start_ticks(shim.state.pid) is None
    return found


async def test_a_crash_is_recorded(yard: Yard) -> None:
    shim = await yard.run("victim", "idle", start_count=7)
    shim.signal_instance(signal.SIGKILL)

    found = await ended(shim)

    assert (found.code, found.signal, found.oom, found.error, found.start_count) == (None, 9, False, None, 7)
    assert found.started_at == shim.state.started_at <= found.ended_at


async def test_an_instance_that_obeys_ends_with_its_own_code(yard: Yard) -> None:
    shim = await yard.run("polite", "polite")
    shim.stop()

    assert (await ended(shim)).code == 7


async def test_an_instance_that_ignores_its_stop_signal_is_killed_after_its_grace(yard: Yard) -> None:
    shim = await yard.run("stubborn", "stubborn", stop_grace_s=0.1)
    shim.stop()

    assert (await ended(shim)).signal == signal.SIGKILL


async def test_a_frozen_instance_can_be_stopped(yard: Yard) -> None:
    shim = await yard.run("frozen", "polite")
    shim.signal_instance(signal.SIGSTOP)
    shim.stop()

    assert (await ended(shim)).code == 7


@pytest.mark.parametrize("hurry", ["second stop", "kill"])
async def test_hurry_does_not_wait_for_the_grace(yard: Yard, hurry: str) -> None:
    shim = await yard.run("stubborn", "stubborn", stop_grace_s=3600)
    if hurry == "second stop":
        shim.stop()
        status = Path(f"/proc/{shim.pid}/status")
        await until(lambda: "ShdPnd:\t0000000000000000" in status.read_text())  # else the two would be one
        shim.stop()
    else:
        shim.kill()

    assert (await ended(shim)).signal == signal.SIGKILL


async def test_two_hundred_children_in_sessions_of_their_own_go_too(yard: Yard) -> None:
    shim = await yard.run("crowd", "crowd")
    await until(lambda: len(procfs.tree(shim.pid)) == 201)
    children = procfs.tree(shim.pid)
    shim.stop()

    await ended(shim)

    assert [pid for pid in children if procfs.start_ticks(pid) is not None] == []


async def test_an_instance_that_closes_its_streams_is_not_taken_for_dead(yard: Yard) -> None:
    shim = await yard.run("silent", "closed_stdio")
    await until(lambda: not os.path.exists(f"/proc/{shim.state.pid}/fd/2"))
    assert procfs.start_ticks(shim.pid) == shim.state.shim_start_ticks
    shim.stop()

    assert (await ended(shim)).signal == signal.SIGTERM


async def test_a_grandchild_that_holds_the_pipe_does_not_make_a_dead_instance_look_alive(yard: Yard) -> None:
    shim = await yard.spawn("parent", argv=("sh", "-c", "setsid sleep 3600 & exit 5"))

    assert (await ended(shim)).code == 5


@pytest.mark.parametrize("confined", [True, False])
async def test_a_killed_shim_takes_its_instance_along(yard: Yard, confined: bool) -> None:
    shim = await yard.run("orphan", "stubborn", private_dir=str(yard.home / "run") if confined else None)
    os.kill(shim.pid, signal.SIGKILL)

    async with asyncio.timeout(PATIENCE_S):
        assert await shim.wait() is None
    await until(lambda: ended_or_zombie(shim.state.pid))


async def test_a_forked_stray_holds_the_slot_until_it_is_swept(yard: Yard) -> None:
    shim = await yard.run("sire", "with_stray")
    stray = int(lines_of(shim)[0])
    os.kill(shim.pid, signal.SIGKILL)
    await until(lambda: shim.slot.strays() == [stray])

    assert shim.slot.adopt() is None
    assert await asyncio.to_thread(shim.slot.sweep_strays) == [stray]

    again = await yard.run("sire", "idle")
    again.stop()
    await ended(again)
    shim.close()


async def test_an_executed_stray_is_known_by_its_slot_though_it_closed_the_lock(yard: Yard) -> None:
    script = "(exec setsid bash -c 'exec 64<&-; echo $$; exec sleep 3600') & wait; sleep 3600"
    shim = await yard.run("sire", argv=("bash", "-c", script))
    stray = int(lines_of(shim)[0])
    await until(lambda: stray not in shim.slot.lock_holders())
    os.kill(shim.pid, signal.SIGKILL)
    await until(lambda: ended_or_zombie(shim.state.pid))

    assert await asyncio.to_thread(shim.slot.sweep_strays) == [stray]

    await until(lambda: ended_or_zombie(stray))
    shim.close()
