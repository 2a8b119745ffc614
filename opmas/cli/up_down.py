"""Stop a node from outside: tell a living `up`; without one, end what it left behind, agents first."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from agent_manager.nats import EmbeddedServer
from agent_manager.process import strays
from agent_manager.process.slot import Shim, Slot
from opmas.cli import home, paper
from opmas.cli.failure import Exit, Failure


async def bring_down(timeout_s: float) -> int:
    """Stop everything of this OPMAS_HOME; 3 when nothing ran."""
    folder = home.home()
    pid = home.lock_holder(folder / "up.lock")
    if pid is not None:
        await _stop_process(pid, timeout_s, "opmas up")
        paper.line("stopped: API, agents, manager, nats-server")
        return Exit.OK
    manager = home.lock_holder(folder / "manager.lock")
    if manager is not None:
        await _stop_process(manager, timeout_s, "the manager")
    agents = await _stop_agents(folder / "run", timeout_s)
    server = EmbeddedServer(folder)
    had_nats = await server.adopt()
    if had_nats:
        await server.stop()
    if not (manager or agents or had_nats):
        paper.note(f"nothing runs in {folder}")
        return Exit.NOT_FOUND
    paper.line(f"stopped what was left: {agents} instances{', nats-server' if had_nats else ''}")
    return Exit.OK


async def _stop_process(pid: int, timeout_s: float, what: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            await _ended(fd, timeout_s)
        except TimeoutError:
            raise Failure(
                f"cannot stop {what}: pid {pid} still runs after {timeout_s:g} s", "try again, or kill it", "timed_out"
            ) from None
        finally:
            os.close(fd)


async def _ended(fd: int, timeout_s: float) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    finally:
        loop.remove_reader(fd)


async def _stop_agents(run_dir: Path, timeout_s: float) -> int:
    slots = await asyncio.to_thread(lambda: [Slot(path) for path in run_dir.glob("*/*/")])
    shims = [shim for shim in (slot.adopt() for slot in slots) if shim is not None]
    async with asyncio.TaskGroup() as tasks:
        for shim in shims:
            tasks.create_task(_stop_shim(shim, timeout_s), name=f"stop-{shim.pid}")
    try:  # what instances left whose shims were killed, and who nobody was there to sweep away
        await asyncio.to_thread(strays.sweep, [slot.path for slot in slots])
    except TimeoutError as error:
        raise Failure(str(error), "try again, or kill them", "timed_out") from None
    return len(shims)


async def _stop_shim(shim: Shim, timeout_s: float) -> None:
    shim.stop()
    try:
        async with asyncio.timeout(timeout_s):
            await shim.wait()
    except TimeoutError:
        shim.kill()
        await shim.wait()
