"""Slots in a folder of the test's own, and how its tests wait for what happens there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_manager.process.launcher import Template
from agent_manager.process.slot import Shim, Slot
from agent_manager.process.spec import InstanceSpec

AGENTS = "tests.integration.process.agents"
PATIENCE_S = 20


class Yard:
    """Makes specs and starts them."""

    def __init__(self, home: Path, template: Template) -> None:
        self.home = home
        self.template = template
        self._slots: list[Slot] = []

    def slot(self, agent_id: str) -> Slot:
        return Slot(self.home / "run" / agent_id / "0")

    def spec(self, agent_id: str, entry: str = "", **fields: Any) -> InstanceSpec:
        slot = self.slot(agent_id)
        slot.path.mkdir(parents=True, exist_ok=True)
        self._slots.append(slot)
        fields = {
            "env": {"PATH": "/usr/bin:/bin"},
            "cwd": str(self.home),
            "start_count": 1,
            "slot_dir": str(slot.path),
        } | fields
        if entry:
            fields["entry"] = (AGENTS, entry)
        return InstanceSpec(agent_id=agent_id, ordinal=0, **fields)

    async def spawn(self, agent_id: str, entry: str = "", **fields: Any) -> Shim:
        return await self.template.spawn(self.spec(agent_id, entry, **fields))

    async def run(self, agent_id: str, entry: str = "", **fields: Any) -> Shim:
        """Spawn one that says when it is there."""
        shim = await self.spawn(agent_id, entry, **fields)
        await until(lambda: lines_of(shim))
        return shim

    async def close(self) -> None:
        for slot in self._slots:
            if shim := slot.adopt():
                shim.kill()
                async with asyncio.timeout(PATIENCE_S):
                    await shim.wait()
            await asyncio.to_thread(slot.sweep_strays)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.005)


def ended_or_zombie(pid: int) -> bool:
    """Say whether `pid` has ended; init may take a while to bury who was left to it."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def lines_of(shim: Shim, count: int = 100_000) -> list[str]:
    return [line.text for line in shim.slot.log.tail(count)[0]]
