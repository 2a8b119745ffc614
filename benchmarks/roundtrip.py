"""A command and a query to the manager over NATS, beside a bare nats-py request to another process.

All through one nats-server with the same credentials; the bare answer has the size of the query's. The command asks for
what is so already: one that changes something also waits for its commit.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import shell
from benchmarks.report import Section, ratio
from benchmarks.sides import opened
from benchmarks.sides.opmas import SIDE
from benchmarks.sides.peer import WORKLOAD

_BARE = "events.benchmark.echo"


async def measure(options: argparse.Namespace) -> Section:
    """Time each kind in turns, so that what else the machine does meets all of them."""
    rounds = options.rounds or 2000
    ids = ["bench-0000"]
    async with opened(SIDE, ids) as node:
        await node.start()
        client = node.beats.client
        asked = {
            "query `status`": ("agent.manager.query", {"query": "status", "agent_id": ids[0]}),
            "command `start` of a running agent": ("agent.manager.command", {"command": "start", "agent_id": ids[0]}),
        }
        bodies = {name: (subject, json.dumps(body).encode()) for name, (subject, body) in asked.items()}
        answer = await client.request(*bodies["query `status`"], timeout=5)
        async with _echo(node, len(answer.data)):
            bodies = {"bare request": (_BARE, bodies["query `status`"][1]), **bodies}
            times: dict[str, list[float]] = {name: [] for name in bodies}
            for _ in range(rounds):
                for name, (subject, body) in bodies.items():
                    times[name].append(await _ask(client, subject, body))
    section = Section("Round trips over NATS", ("", "median", "99th percentile", "beside the bare one"))
    bare = statistics.median(times["bare request"])
    for name, taken in times.items():
        median = statistics.median(taken)
        high = statistics.quantiles(taken, n=100)[98]
        section.rows.append((name, f"{median * 1e6:.0f} µs", f"{high * 1e6:.0f} µs", ratio(median, bare)))
    section.notes.append(f"{rounds} of each, one after another, in turns; the answer has {len(answer.data)} bytes")
    return section


async def _ask(client: Any, subject: str, body: bytes) -> float:
    began = time.perf_counter()
    answer = await client.request(subject, body, timeout=5)
    took = time.perf_counter() - began
    if b'"status":"error"' in answer.data:
        raise RuntimeError(answer.data.decode())
    return took


@asynccontextmanager
async def _echo(node: Any, size: int) -> AsyncIterator[None]:
    home = node.home
    env = {**node.env, "NATS_URL": node.beats.url, "NATS_CREDS": str(home / "nats" / "cli.creds")}
    log = home / "echo.log"
    async with shell.beside(sys.executable, WORKLOAD / "echo.py", _BARE, str(size), env=env, log=log):
        await shell.until_there(log)
        yield
