"""Reports what its machine is busy with, and says so on `events.host` when a figure crosses its threshold.

Each crossing is one event, on the way up (`high`) and on the way down (`normal`): not one per heartbeat.
"""

import asyncio
import os
import socket
import time
from typing import Any, Final

import psutil

from opmas.agent import Agent, query

THRESHOLDS: Final = ("cpu_percent", "memory_percent", "disk_percent", "load_per_cpu")


def sample(disk: str) -> dict[str, float]:
    """Take the figures: percentages of the whole, bytes, and the load of the last minute per processor."""
    memory, filesystem = psutil.virtual_memory(), psutil.disk_usage(disk)
    load = os.getloadavg()[0]
    return {
        "cpu_percent": psutil.cpu_percent(),  # since the call before
        "memory_percent": memory.percent,
        "memory_available_bytes": float(memory.available),
        "disk_percent": filesystem.percent,
        "disk_free_bytes": float(filesystem.free),
        "load_1m": load,
        "load_per_cpu": load / (os.cpu_count() or 1),
    }


class HostMetrics(Agent):
    """One figure per heartbeat interval for each resource; thresholds come from the config."""

    async def start(self) -> None:
        """Begin the first interval of the processor's figure."""
        self.high: set[str] = set()
        psutil.cpu_percent()

    async def collect_metrics(self) -> dict[str, float]:
        """Take a sample, publish what crossed its threshold, and report the figures."""
        figures = await self._sample()
        for name in THRESHOLDS:
            await self._compare(name, figures[name], float(self._setting(name)))
        return figures

    @query("snapshot")
    async def snapshot(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer with the figures of this moment and what is above its threshold."""
        return {"host": socket.gethostname(), "figures": await self._sample(), "high": sorted(self.high)}

    async def _sample(self) -> dict[str, float]:
        # In a thread: a network disk that hangs must not stop the heartbeat.
        return await asyncio.to_thread(sample, str(self._setting("disk")))

    def _setting(self, name: str) -> Any:
        return self.config[name]

    async def _compare(self, name: str, value: float, threshold: float) -> None:
        is_high = value >= threshold
        if is_high == (name in self.high):
            return
        self.high ^= {name}
        event = {
            "event": f"host.{name}.{'high' if is_high else 'normal'}",
            "agent_id": self.id,
            "host": socket.gethostname(),
            "value": value,
            "threshold": threshold,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.log.warning("%s: %.1f, threshold %.1f", event["event"], value, threshold)
        await self.publish("events.host", event)
