"""Whatever is done to runs, in whatever order: logs have no gap, and every end is said once."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest

from management_api.store import Ledger
from management_api.store.rows import RunFilter, RunRow
from opmas.wire.errors import Conflict, RunNotFound
from opmas.wire.messages import now
from opmas.wire.runs import Assignment, EventKind, OnLost, RunEvent, RunStatus
from tests.integration.ledger.making import STARTED, Instance, asking, chunk, end, kinds, new

STEPS, AT_ONCE = 50, 8
SPECS = ({}, {"on_lost": "retry"}, {"session_runs": "interrupt"}, {"session_runs": "reject"})


class Walk:
    """A seeded choice of operations by two servers and four instances."""

    def __init__(self, ledgers: tuple[Ledger, Ledger], seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a walk, not a secret
        self.ledgers = ledgers
        self.instances = [Instance(ledgers[n % 2], f"echo-{n}") for n in range(4)]
        self.held: list[tuple[Instance, Assignment]] = []
        self.logs: dict[tuple[str, int], list[RunEvent]] = {}
        self.ids: list[str] = []

    async def step(self) -> None:
        acts: list[Callable[[], Awaitable[object]]] = [
            self.accept, self.accept, self.claim, self.claim, self.send, self.send, self.send, self.cancel,
            self.decide, self.decide, self.sweep,
        ]  # fmt: skip
        with suppress(RunNotFound, Conflict):  # refusals; anything else is a fault
            await self.dice.choice(acts)()

    async def accept(self) -> None:
        session = self.dice.choice([None, "s", "t"])
        asked = new(session_id=session, spec=self.dice.choice(SPECS), idempotency_key=f"k{self.dice.randrange(60)}")
        accepted = await self.dice.choice(self.ledgers).accept(asked)
        self.ids.append(accepted.run.id)

    async def claim(self) -> None:
        instance = self.dice.choice(self.instances)
        self.held += [(instance, given) for given in await instance.claim(self.dice.randrange(1, 4))]

    async def send(self) -> None:
        if not self.held:
            return
        instance, given = self.dice.choice(self.held)
        log = self.logs.setdefault((given.run_id, given.epoch), [STARTED])
        if log[-1].kind not in (EventKind.END, EventKind.CONFIRMATION):
            log += [chunk("a"), self.dice.choice([chunk("x"), chunk("y"), end(), asking(self.dice.randrange(9))])]
        skipped = self.dice.randrange(len(log))  # of what may have been sent before, some is sent again
        await instance.send(given, *log[skipped:], at=given.next_seq + skipped)

    async def cancel(self) -> None:
        if self.ids:
            await self.dice.choice(self.ledgers).cancel(self.dice.choice(self.ids), "x")

    async def decide(self) -> None:
        runs, _ = await self.ledgers[0].runs(RunFilter(status=RunStatus.WAITING_CONFIRMATION))
        for run in runs[:2]:
            assert run.confirmation is not None
            yes = self.dice.random() < 0.5
            await self.dice.choice(self.ledgers).decide(run.id, run.confirmation.id, yes, "", None, "x")

    async def sweep(self) -> None:
        at = now() + timedelta(seconds=self.dice.choice([0, 31]))
        await self.dice.choice(self.ledgers).sweep(at, verdicts=True, grace_s=5)

    async def finish(self) -> None:
        """Let every run come to its end."""
        for _ in range(4):
            await self.ledgers[0].sweep(now() + timedelta(days=3), verdicts=True, grace_s=0)


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_walk_logs_have_no_gap_and_every_end_is_said_once(
    ledger: Ledger, other_ledger: Ledger, seed: int
) -> None:
    walk = Walk((ledger, other_ledger), seed)
    async with asyncio.timeout(60):
        for _ in range(STEPS):
            await asyncio.gather(*(walk.step() for _ in range(AT_ONCE)))
        await walk.finish()

        runs = [run for at in range(0, 500, 100) for run in (await ledger.runs(RunFilter(limit=100, offset=at)))[0]]
        for run in runs:
            await check(ledger, run)
    ends = Counter(run.status for run in runs)
    assert {RunStatus.COMPLETED, RunStatus.CANCELLED} <= ends.keys(), ends


async def check(ledger: Ledger, run: RunRow) -> None:
    said = await kinds(ledger, run.id)
    assert run.status.is_terminal, run
    assert len(said) == run.seq
    assert said.index("end") == len(said) - 1
    last = RunEvent.model_validate_json((await ledger.events(run.id))[-1].json)
    assert last.end is not None
    assert (last.end.status, run.owner) == (run.status, None)
    if run.spec.on_lost is OnLost.NEVER_STARTED:  # called anew only after a confirmation
        calls = [kind for kind in said if kind in ("started", "confirmation")]
        assert not any(pair == ("started", "started") for pair in pairwise(calls)), said
