"""Runs over HTTP, beside Agno's AgentOS with the same offline agent: how many a second, how long each, at what cost.

OPMAS's runs are durable: each is committed before it is accepted and after each of its steps. AgentOS's are not; with
its SqliteDb it keeps the finished run.
"""

import argparse
import asyncio
import dataclasses
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.load import Load, Measured
from benchmarks.report import Section
from benchmarks.targets import Target, serving

_CALLERS = (1, 16, 64)
_REPLICAS = (1, 2, 4)


async def measure(options: argparse.Namespace) -> Section:
    """Measure each kind of call on all sides one after the other, so that what else the machine does meets all."""
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = 2.0 if options.quick else 4.0
    columns = ("callers", "side", "Agno's store", "runs/s", "p50", "p99", "first piece", "processor time per run")
    section = Section("Runs of one offline Agno agent", columns)
    async with serving(_REPLICAS[:1] if options.quick else _REPLICAS) as targets:
        for streamed in (False, True):
            for callers in _CALLERS:
                cells = {_label(target, callers, streamed): target for target in targets}
                wanted = {label: each for label, each in cells.items() if re.search(options.only or "", label)}
                found: dict[str, list[Measured]] = {label: [] for label in wanted}
                for _ in range(rounds):
                    for label, target in wanted.items():
                        found[label].append(await _measure(target, callers, streamed, seconds))
                section.rows += _rows(callers, streamed, wanted, found)
    section.notes += _NOTES
    how = f"the median of {rounds} rounds" if rounds > 1 else "one round"
    section.notes.append(f"each figure is of {how} of {seconds:g} s, sides taking turns")
    return section


_NOTES = (
    "waited: the call returns with the finished run; streamed: server-sent events, ten pieces of text",
    "in brackets: throughput beside AgentOS with SqliteDb in the same kind of call",
    "an OPMAS run is committed with fsync when it is accepted, claimed, started and ended, and bears a checked token; "
    "AgentOS has no authentication here",
    "processor time of all threads; the load generator's, on the same cores, is not in it",
)


def _label(target: Target, callers: int, streamed: bool) -> str:
    return f"{callers} {'streamed' if streamed else 'waited'} {target.name}, {target.store}"


async def _measure(target: Target, callers: int, streamed: bool, seconds: float) -> Measured:
    first, whole = target.answer(streamed)
    load = Load(
        port=target.port,
        request=target.request(streamed),
        callers=callers,
        warm_s=seconds / 4,
        measured_s=seconds,
        first=first,
        whole=whole,
        pids=target.pids,
    )
    generator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(seconds * 2 + 90):
        said, _ = await generator.communicate(json.dumps(dataclasses.asdict(load)).encode())
    measured = Measured(**json.loads(said))
    label = _label(target, callers, streamed)
    print(f"{label}: {measured.rate:.0f}/s, failed {measured.failed} {measured.failure}", file=sys.stderr, flush=True)
    return measured


def _rows(
    callers: int, streamed: bool, cells: Mapping[str, Target], found: Mapping[str, Sequence[Measured]]
) -> Iterable[tuple[str, ...]]:
    beside = {(each.name, each.store): _median(found[label], "rate") for label, each in cells.items()}
    base = beside.get(("AgentOS", "sqlite"), 0.0)
    for label, target in cells.items():
        rounds = found[label]
        rate = _median(rounds, "rate")
        failed = sum(each.failed for each in rounds)
        yield (
            f"{callers} {'streamed' if streamed else 'waited'}",
            target.name,
            target.store,
            f"{rate:.0f}" + (f" ({rate / base:.1f}x)" if base else "") + (f", {failed} failed" if failed else ""),
            _ms(_median(rounds, "p50")),
            _ms(_median(rounds, "p99")),
            _ms(_median(rounds, "first_p50")) if streamed else "",
            ", ".join(f"{name} {_ms(statistics.median(each.cpu[name] for each in rounds))}" for name in target.pids),
        )


def _median(rounds: Sequence[Measured], figure: str) -> float:
    return statistics.median(float(getattr(each, figure)) for each in rounds)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
