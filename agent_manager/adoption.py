"""Takes over what lives: every slot on disk is looked at before anything is started or stopped."""

import asyncio
import contextlib
from collections.abc import Iterable, Set
from pathlib import Path

import structlog

from agent_manager.lifecycle import Phase
from agent_manager.models import CANNOT_USE_MODEL
from agent_manager.process import strays
from agent_manager.process.slot import Shim, Slot
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import InstanceRow
from agent_manager.supervisor import Supervisor
from opmas.wire.status import AgentStatus

log = structlog.get_logger(__name__)


def adopt_all(registry: AgentRegistry, supervisor: Supervisor, rows: Iterable[InstanceRow]) -> int:
    """Restore what the database knew of each instance and adopt the living ones; say how many those are."""
    known = {(row.agent_id, row.ordinal): row for row in rows}
    adopted = 0
    for record in registry:
        for ordinal in _ordinals(registry, record, known):
            instance = registry.instance(record, ordinal)
            row = known.get((record.id, ordinal))
            if row is not None:
                instance.restore(row)
            was_ready = row is not None and row.status in {AgentStatus.RUNNING, AgentStatus.INACTIVE}
            if supervisor.adopt(record, instance, was_ready=was_ready):
                adopted += 1
            elif row is not None:
                instance.phase = _rest(record, row)
                instance.epoch = record.row.epoch
    return adopted


async def sweep_dead_slots(registry: AgentRegistry) -> None:
    """Kill what is left in slots whose shims are dead, be they anybody's: while no manager lived, nobody did."""
    alive = {instance.slot.path for instance in registry.instances() if instance.alive}
    try:
        killed = await asyncio.to_thread(_sweep_all_but, registry.run_dir, alive)
    except TimeoutError as error:
        log.warning("strays_live_on", reason=str(error))
    else:
        if killed:
            log.warning("strays_killed", pids=killed)


def _sweep_all_but(run_dir: Path, alive: Set[Path]) -> list[int]:
    return strays.sweep(path for path in run_dir.glob("*/*") if path.name.isdecimal() and path not in alive)


def _ordinals(registry: AgentRegistry, record: AgentRecord, known: dict[tuple[str, int], InstanceRow]) -> list[int]:
    folder = registry.run_dir / record.id
    on_disk = {int(slot.name) for slot in folder.iterdir() if slot.name.isdecimal()} if folder.is_dir() else set()
    return sorted(on_disk | {ordinal for agent_id, ordinal in known if agent_id == record.id})


def _rest(record: AgentRecord, row: InstanceRow) -> Phase:
    """Where an instance without a process rests: who had given up, or was done, is not started by our coming.

    One that lacked a model is: its definition or its key may have come with us.
    """
    why = str((row.last_exit or {}).get("reason"))
    if record.wanted and row.status is AgentStatus.ERROR and row.next_retry_at is None:
        return Phase.IDLE if why.startswith(CANNOT_USE_MODEL) else Phase.FAILED
    if record.wanted and why == "completed":
        return Phase.FINISHED
    return Phase.IDLE


async def end_all(run_dir: Path, grace_s: float, killed_s: float) -> int:
    """Stop what lives in the slots though nobody could say yet whose it is; returns how many instances those were."""
    shims = _living(run_dir)
    for shim in shims:
        shim.stop()
    try:
        async with asyncio.timeout(grace_s):
            await _ended(shims)
    except TimeoutError:
        for shim in shims:
            shim.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(killed_s):
                await _ended(shims)
    finally:
        for shim in shims:
            shim.close()
    return len(shims)


def _living(run_dir: Path) -> list[Shim]:
    slots = [Slot(path) for path in run_dir.glob("*/*") if path.name.isdecimal()]
    return [shim for slot in slots if (shim := slot.adopt()) is not None]


async def _ended(shims: list[Shim]) -> None:
    for shim in shims:
        await shim.wait()
