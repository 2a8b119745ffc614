"""Runs while everything that carries them is killed and frozen: each reaches one truthful end.

`OPMAS_CHAOS_SEED` chooses other blows; what fails says which it was, and which blows fell in the life of the run.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path

import pytest

from tests.chaos import record
from tests.chaos.callers import Asked, Callers, Line, requests
from tests.chaos.record import Recorded
from tests.chaos.second import SecondApi
from tests.chaos.torment import Tormentor, frozen, victims_of
from tests.node import Node, until, write_package

SEED = int(os.environ.get("OPMAS_CHAOS_SEED", "2026"))
REPLICAS = 3
LEASE_S = 3.0
SPREAD_S = 35.0  # over which the requests are sent
TERMINAL_S = 30.0  # after the last blow: a lease for the verdicts to wait, one to run out, and the work that was left

# Writes down each start on disk before it does anything else, then says the numbers up to `pieces`.
SCRIBE = """
    import asyncio
    import os
    from pathlib import Path

    from opmas.agent import Agent, RunContext, run


    class Worker(Agent):
        @run
        async def count(self, ctx: RunContext) -> None:
            self.journal(f"{ctx.run_id} {ctx.attempt} {self.instance_id}\\n")
            for number in range(ctx.params["pieces"]):
                await ctx.send(f"{number} ")
                await asyncio.sleep(ctx.params["pause"])

        def journal(self, line: str) -> None:
            path = Path(os.environ["OPMAS_DATA_DIR"], "starts")
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line.encode())
                os.fsync(file)
            finally:
                os.close(file)
"""


@contextmanager
def serving(root: Path, **settings: str) -> Iterator[Node]:
    """Run a node with the scribe, whose leases are short so that verdicts come soon; nothing is left of it."""
    one = Node(root, root / "packages", OPMAS_RUNS__LEASE_S=str(LEASE_S), **settings)
    restart = {"max_attempts": 1000, "delay": "100ms", "max_delay": "500ms"}
    write_package(one.packages, "scribe", SCRIBE, replicas=REPLICAS, restart=restart, heartbeat={"interval": 1})
    try:
        one.up().running("scribe")
        yield one
    finally:
        one.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serving(tmp_path) as one:
        yield one


def test_a_thousand_runs_reach_one_truthful_end_each_whatever_is_killed_or_frozen(node: Node) -> None:
    dice = random.Random(SEED)  # noqa: S311 - the same blows every time, no secret
    asked = requests(1000, dice)
    tormentor = Tormentor(victims_of(node, "scribe", REPLICAS), dice, LEASE_S)

    torment(node, asked, tormentor, Callers(node, "scribe", asked, threads=24, seconds=SPREAD_S))


def test_runs_of_two_apis_on_one_postgresql_end_as_truthfully(tmp_path: Path, postgres_url: str) -> None:
    dice = random.Random(SEED + 1)  # noqa: S311 - as above
    asked = requests(200, dice)
    with serving(tmp_path, OPMAS_DATABASE__URL=postgres_url) as node, SecondApi(node) as second:
        tormentor = Tormentor(victims_of(node, "scribe", REPLICAS) | {"second api": second.pid}, dice, LEASE_S)
        ports = (int(node.environment["OPMAS_API__PORT"]), second.port)

        torment(node, asked, tormentor, Callers(node, "scribe", asked, 12, SPREAD_S / 3, ports))


def torment(node: Node, asked: list[Asked], tormentor: Tormentor, callers: Callers) -> None:
    """Let the callers call while the tormentor strikes; then every run must have its one truthful end."""
    print(f"OPMAS_CHAOS_SEED={SEED}")  # noqa: T201 - shown when the test fails
    callers.start()
    try:
        tormentor.torment(enough=callers.are_done)
    finally:
        callers.join()
    found = record.read(node, "scribe", [each.run_id for each in asked if each.run_ids], TERMINAL_S)
    started = record.starts(journal(node))

    endings = Counter(each.ending for each in found.values())
    print(endings, *tormentor.blows, sep="\n  ")  # noqa: T201 - shown when the test fails
    complaints = [
        report(each, found.get(each.run_id) if each.run_ids else None, complaint, tormentor)
        for each in asked
        for complaint in chain(each.complaints, faults(each, found, started))
    ]
    assert not complaints, f"{len(complaints)} complaints, OPMAS_CHAOS_SEED={SEED}:\n" + "\n".join(complaints[:10])
    assert record.total(node, "scribe") == len(asked)
    assert endings["completed"] > len(asked) / 2


def faults(asked: Asked, found: Mapping[str, Recorded], started: Mapping[str, list[str]]) -> Iterable[str]:
    if not asked.run_ids:
        return ("it was never accepted",)
    return record.faults(asked, found[asked.run_id], len(started.get(asked.run_id, ())), ("completed", "interrupted"))


def report(asked: Asked, found: Recorded | None, complaint: str, tormentor: Tormentor) -> str:
    last = found.events[-1][1]["timestamp"] if found and found.events else None
    until = datetime.fromisoformat(last).timestamp() if last else time.time()
    return "\n    ".join(
        [
            f"{asked.key}, run {asked.run_ids}: {complaint}",
            f"events: {record.shown(found.events) if found else 'none'}",
            *map(str, tormentor.during(asked.sent_at - 1, until + 1)),
        ]
    )


def journal(node: Node) -> str:
    return "".join(file.read_text() for file in node.home.glob("data/**/starts"))


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_runs_go_on_and_complete_while_the_api_is_away_for_longer_than_their_lease(node: Node, outage: str) -> None:
    body = {"message": "go on", "params": {"pieces": 5, "pause": LEASE_S / 4}}
    with Line(node) as line:
        accepted = [line.persist("POST", "/api/v1/agents/scribe/runs", body)[1]["runId"] for _ in range(6)]
    until(lambda: len(record.starts(journal(node))) == len(accepted), "all to be started")

    if outage == "frozen":
        with frozen(node.pid("api")):
            time.sleep(2 * LEASE_S)
    else:
        node.kill_up()  # API and manager die with it, agents and nats-server live on
        time.sleep(2 * LEASE_S)
        node.up()

    found = record.read(node, "scribe", accepted, TERMINAL_S)
    assert {run_id: each.ending for run_id, each in found.items()} == dict.fromkeys(accepted, "completed")
    assert all(record.content(each.events) == "0 1 2 3 4 " for each in found.values())
    assert all(len(each) == 1 for each in record.starts(journal(node)).values())
