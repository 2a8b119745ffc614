"""What no message will end is ended, or freed, when its time has come, and not before."""

from datetime import datetime, timedelta

import pytest

from management_api.store import Ledger
from management_api.store.rows import Changed
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus
from tests.integration.ledger.making import LEASE_S, STARTED, Instance, asking, chunk, end, kinds, new

RETRY = {"on_lost": "retry"}


def later(seconds: float = LEASE_S + 1) -> datetime:
    return now() + timedelta(seconds=seconds)


async def lose(ledger: Ledger) -> tuple[Changed, ...]:
    return (await ledger.sweep(later(), verdicts=True, grace_s=5)).changed


async def test_a_lease_is_judged_when_it_is_over_and_verdicts_are_wanted(ledger: Ledger, instance: Instance) -> None:
    await ledger.accept(new())
    given = await instance.start()

    for at, verdicts in ((later(), False), (now(), True)):
        assert (await ledger.sweep(at, verdicts, grace_s=5)).changed == ()
    (changed,) = await lose(ledger)

    assert (changed.run.status, changed.run.reason, changed.dropped) == (
        RunStatus.INTERRUPTED, "interrupted", "echo-0",
    )  # fmt: skip
    assert await kinds(ledger, given.run_id) == ["started", "end"]
    assert (await instance.send(given, chunk("late"), end())).reply.fenced
    assert await lose(ledger) == ()


async def test_a_run_whose_handler_was_not_called_is_given_to_another(ledger: Ledger, instance: Instance) -> None:
    await ledger.accept(new())
    first = await instance.take()

    (changed,) = await lose(ledger)
    assert (changed.run.status, changed.run.owner, changed.events) == (RunStatus.PENDING, None, ())

    second = await Instance(ledger, "echo-1").start()
    assert (second.run_id, second.attempt) == (first.run_id, 1)
    assert second.epoch > first.epoch
    assert (await instance.send(first, STARTED)).reply.fenced
    assert await kinds(ledger, first.run_id) == ["started"]


async def test_a_resumption_that_was_not_called_is_given_to_another(ledger: Ledger, instance: Instance) -> None:
    run_id = (await ledger.accept(new())).run.id
    await instance.send(await instance.start(), asking())
    await ledger.decide(run_id, "c1", True, "", None, "x")
    assert (await instance.take()).resume is not None

    assert [one.run.status for one in await lose(ledger)] == [RunStatus.RUNNING]

    assert (await instance.start()).resume is not None
    assert [one.run.status for one in await lose(ledger)] == [RunStatus.INTERRUPTED]


async def test_a_run_that_may_be_retried_is_poison_when_lost_three_times(ledger: Ledger, instance: Instance) -> None:
    run_id = (await ledger.accept(new(spec=RETRY))).run.id

    for attempt in (1, 2, 3):
        given = await instance.start()
        assert (given.attempt, given.next_seq) == (attempt, attempt)
        (changed,) = await lose(ledger)

    assert (changed.run.status, changed.run.reason) == (RunStatus.FAILED, "poison")
    assert await kinds(ledger, run_id) == ["started", "started", "started", "end"]
    assert await instance.claim() == ()


async def test_a_lost_run_that_was_to_be_cancelled_is_cancelled(ledger: Ledger, instance: Instance) -> None:
    await ledger.accept(new(spec=RETRY))
    given = await instance.start()
    await ledger.cancel(given.run_id, "ann")

    (changed,) = await lose(ledger)

    assert changed.run.status is RunStatus.CANCELLED
    assert await kinds(ledger, given.run_id) == ["started", "end"]


async def test_a_newer_process_of_a_slot_proves_the_older_gone(ledger: Ledger, instance: Instance) -> None:
    for _ in range(2):
        await ledger.accept(new())
    await instance.start()
    await instance.take()
    other = Instance(ledger, "echo-1")
    await ledger.accept(new())
    await other.start()

    assert await ledger.settle_older("echo", "echo-0", 1) == ()
    changed = await ledger.settle_older("echo", "echo-0", 2)

    assert [one.run.status for one in changed] == [RunStatus.INTERRUPTED, RunStatus.PENDING]
    assert await ledger.settle_older("echo", "echo-0", 2) == ()


async def test_a_run_that_nobody_takes_in_time_expires(ledger: Ledger, instance: Instance) -> None:
    late = (await ledger.accept(new(spec={"start_within_s": 60}))).run
    held = (await ledger.accept(new(agent_id="other", spec={"start_within_s": 60}))).run
    await Instance(ledger, agent="other").take()

    assert (await ledger.sweep(later(50), verdicts=False, grace_s=0)).changed == ()
    (changed,) = (await ledger.sweep(later(70), verdicts=False, grace_s=0)).changed

    assert (changed.run.id, changed.run.status, changed.run.reason) == (late.id, RunStatus.EXPIRED, "expired")
    assert await kinds(ledger, late.id) == ["end"]
    assert await kinds(ledger, held.id) == []


async def test_a_resumption_that_nobody_takes_in_time_expires_too(ledger: Ledger, instance: Instance) -> None:
    run_id = (await ledger.accept(new(spec={"start_within_s": 60}, created_at=later(-300)))).run.id
    await instance.send(await instance.start(), asking())
    await ledger.decide(run_id, "c1", True, "", None, "x")

    assert (await ledger.sweep(later(50), verdicts=False, grace_s=0)).changed == ()
    (changed,) = (await ledger.sweep(later(70), verdicts=False, grace_s=0)).changed

    assert (changed.run.status, changed.run.reason) == (RunStatus.EXPIRED, "expired")
    assert await kinds(ledger, run_id) == ["started", "confirmation", "end"]


async def test_a_run_beyond_its_time_and_grace_fails_and_fences_its_instance(
    ledger: Ledger, instance: Instance
) -> None:
    instance.lease_s = 3600
    await ledger.accept(new(spec={"limits": {"wall_time_s": 10}}))
    given = await instance.start()

    for after, verdicts in ((14, True), (16, False)):
        assert (await ledger.sweep(later(after), verdicts, grace_s=5)).changed == ()
    (changed,) = (await ledger.sweep(later(16), verdicts=True, grace_s=5)).changed

    assert (changed.run.status, changed.run.reason, changed.dropped) == (RunStatus.FAILED, "time_limit", "echo-0")
    assert (await instance.send(given, end())).reply.fenced


async def test_agents_with_work_are_those_with_a_run_to_claim(ledger: Ledger, instance: Instance) -> None:
    async def agents() -> frozenset[str]:
        return (await ledger.sweep(now(), verdicts=False, grace_s=0)).agents_with_work

    assert await agents() == frozenset()
    for agent in ("echo", "other"):
        await ledger.accept(new(agent_id=agent, session_id=agent))
    assert await agents() == {"echo", "other"}
    given = await instance.take()
    await ledger.accept(new(session_id="echo"))  # waits for the one before it
    assert await agents() == {"other"}
    await instance.send(given, STARTED, end())
    assert await agents() == {"echo", "other"}


async def test_the_runs_of_a_deleted_agent_fail_unless_an_instance_holds_them(
    ledger: Ledger, instance: Instance
) -> None:
    waiting = (await ledger.accept(new())).run.id
    await instance.send(await instance.start(), asking())
    held = (await ledger.accept(new())).run.id
    await instance.start()
    pending = (await ledger.accept(new())).run.id
    await ledger.accept(new(agent_id="other"))
    assert await ledger.agents_with_pending() == {"echo", "other"}

    changed = await ledger.fail_pending("echo", "agent echo is no more", "agent_deleted")

    assert [one.run.id for one in changed] == [waiting, pending]
    assert {(one.run.status, one.run.error, one.run.reason) for one in changed} == {
        (RunStatus.FAILED, "agent echo is no more", "agent_deleted")
    }
    assert (await ledger.run(held)).status is RunStatus.RUNNING  # type: ignore[union-attr] - it was accepted above
    assert await ledger.agents_with_pending() == {"other"}


@pytest.mark.parametrize("spec", [{}, RETRY])
async def test_an_instance_that_was_only_slow_goes_on(ledger: Ledger, instance: Instance, spec: object) -> None:
    await ledger.accept(new(spec=spec))
    instance.lease_s = -1  # over before it began, as after a long outage of the API
    given = await instance.start()

    answer = await instance.send(given, end())

    assert answer.run is not None
    assert answer.run.status is RunStatus.COMPLETED
    assert await lose(ledger) == ()
