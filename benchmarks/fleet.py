"""A thousand agents that beat every five seconds on one node: how soon all are ready, what that costs the manager."""

import argparse
import asyncio
import time
from functools import partial
from types import SimpleNamespace

from benchmarks import figures
from benchmarks.report import Section
from benchmarks.sides import opened
from benchmarks.sides.opmas import SIDE
from benchmarks.sides.peer import WORKLOAD

_MANIFEST = """name: {id}
entrypoint: agent.py:Quiet
autostart: false
heartbeat: {{interval: 5s}}
"""
_WATCHED_S = 60.0
_PATIENCE_S = 300.0


async def measure(options: argparse.Namespace) -> Section:
    """Start them by one command, then watch the manager for a minute."""
    count = options.agents or 1000
    ids = [f"bench-{number:04d}" for number in range(count)]
    side = SimpleNamespace(
        name="fleet", open=partial(SIDE.open, manifest=_MANIFEST.format, agent=WORKLOAD / "quiet.py")
    )
    async with opened(side, ids) as node:
        began = time.monotonic()
        starting = asyncio.create_task(node.start(), name="start command")
        ready_s = await node.beats.all_ready(ids, _PATIENCE_S) - began
        await starting
        await asyncio.sleep(10)
        manager = node.pids["manager"]
        used = figures.cpu_s(manager)
        await asyncio.sleep(_WATCHED_S)
        cpu = (figures.cpu_s(manager) - used) / _WATCHED_S * 100
        memory = figures.pss_mb(node.agent_processes()) / count
        rss, pss = figures.rss_mb(manager), figures.pss_mb([manager])
    section = Section(f"{count} agents that beat every 5 s", ("what", "figure"))
    section.rows += [
        ("start command to all ready", f"{ready_s:.1f} s"),
        ("manager, processor", f"{cpu:.1f} % of one core"),
        ("manager, memory", f"{rss:.0f} MB RSS, {pss:.0f} MB PSS"),
        ("memory per agent (PSS), shim and template included", f"{memory:.1f} MB"),
    ]
    section.notes.append(f"processor time over {_WATCHED_S:.0f} s, from ten seconds after all were ready")
    return section
