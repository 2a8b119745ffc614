"""The manager may die at any moment: what lives goes on, and the next one takes it over."""

import asyncio
import dataclasses
import signal
import sys
from pathlib import Path

from agent_manager.process import record
from agent_manager.process.record import SlotState
from tests.integration.process.yard import PATIENCE_S, Yard, ended_or_zombie, lines_of, until

MANAGER = """
import asyncio, sys
from agent_manager.process.launcher import Template
from agent_manager.process.spec import InstanceSpec

async def main():
    template = await Template.start((), sys.argv[1])
    shim = await template.spawn(InstanceSpec.from_json(sys.argv[2]))
    print(template.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def spawn_and_die(yard: Yard, entry: str) -> SlotState:
    """Run another manager that starts one instance, and kill it."""
    spec = yard.spec("heir", entry)
    manager = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MANAGER, yard.home / "other.log", spec.to_json(), stdout=asyncio.subprocess.PIPE
    )
    assert manager.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        template = int(await manager.stdout.readline())
        manager.kill()
        await manager.wait()
    await until(lambda: ended_or_zombie(template))
    state = SlotState.load(Path(spec.slot_dir, "state"))
    assert state is not None
    return state


async def test_the_next_manager_adopts_the_same_process_and_misses_no_line(yard: Yard) -> None:
    before = await spawn_and_die(yard, "ticker")

    shim = yard.slot("heir").adopt()

    assert shim is not None
    assert shim.state == before
    seen = len(lines_of(shim))
    await until(lambda: len(lines_of(shim)) > seen)
    shim.stop()
    async with asyncio.timeout(PATIENCE_S):
        ended = await shim.wait()
    assert ended is not None
    assert ended.signal == signal.SIGTERM
    lines = lines_of(shim)
    assert lines == [str(number) for number in range(len(lines))]


async def test_an_end_without_a_manager_is_on_record(yard: Yard) -> None:
    await spawn_and_die(yard, "leave_with_three")
    slot = yard.slot("heir")
    await until(slot.read_exit)

    ended = slot.read_exit()
    assert ended is not None
    assert ended.code == 3
    await until(lambda: slot.adopt() is None)


async def test_a_stranger_with_the_pid_of_the_dead_is_not_adopted(yard: Yard) -> None:
    shim = await yard.run("ghost", "idle")
    slot = shim.slot
    for changed in ({"boot_id": "another"}, {"shim_start_ticks": shim.state.shim_start_ticks + 1}):
        record.save(slot.path / "state", dataclasses.replace(shim.state, **changed))
        assert slot.adopt() is None
    record.save(slot.path / "state", shim.state)
    shim.kill()
    async with asyncio.timeout(PATIENCE_S):
        await shim.wait()
    assert slot.adopt() is None
