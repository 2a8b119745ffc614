"""Cancelling and deciding: once, at the right moment, and never twice."""

import asyncio
from datetime import timedelta

import pytest

from management_api.store import Ledger
from management_api.store.rows import Changed
from opmas.wire.errors import ConfirmationDecided, RunNotFound, TooLarge
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus
from tests.integration.ledger.making import STARTED, Instance, asking, chunk, end, kinds, new


async def waiting(ledger: Ledger, instance: Instance, **fields: float) -> str:
    run_id = (await ledger.accept(new())).run.id
    await instance.send(await instance.start(), asking(**fields))
    return run_id


async def test_a_run_that_nobody_holds_is_cancelled_at_once(ledger: Ledger, instance: Instance) -> None:
    pending = (await ledger.accept(new())).run

    changed = await ledger.cancel(pending.id, "ann")

    assert (changed.run.status, changed.run.reason) == (RunStatus.CANCELLED, "cancelled")
    assert [event.seq for event in changed.events] == [1]
    assert await instance.claim() == ()
    again = await ledger.cancel(pending.id, "bob")
    assert (again.changed, again.run.status, again.events) == (False, RunStatus.CANCELLED, ())
    assert await kinds(ledger, pending.id) == ["end"]


async def test_who_holds_a_run_is_asked_with_every_frame_to_stop_it(ledger: Ledger, instance: Instance) -> None:
    await ledger.accept(new())
    given = await instance.start()

    changed = await ledger.cancel(given.run_id, "ann")

    assert (changed.run.status, changed.run.cancel_requested) == (RunStatus.RUNNING, True)
    assert (await instance.send(given)).reply.cancel
    assert (await instance.send(given, chunk("a"))).reply.cancel
    ended = await instance.send(given, end(status=RunStatus.CANCELLED))
    assert ended.run is not None
    assert ended.run.status is RunStatus.CANCELLED


async def test_a_cancel_that_meets_the_end_leaves_one_end(ledger: Ledger, other_ledger: Ledger) -> None:
    instance = Instance(ledger)
    for _ in range(5):
        await ledger.accept(new())
        given = await instance.start()

        async with asyncio.timeout(20):
            await asyncio.gather(instance.send(given, end()), other_ledger.cancel(given.run_id, "ann"))

        assert await kinds(ledger, given.run_id) == ["started", "end"]
        run = await ledger.run(given.run_id)
        assert run is not None
        assert run.status is RunStatus.COMPLETED


async def test_who_asks_although_it_was_told_to_stop_is_not_waited_for(ledger: Ledger, instance: Instance) -> None:
    await ledger.accept(new())
    given = await instance.start()
    await ledger.cancel(given.run_id, "ann")

    answer = await instance.send(given, asking())

    assert answer.run is not None
    assert answer.run.status is RunStatus.CANCELLED
    assert await kinds(ledger, given.run_id) == ["started", "confirmation", "end"]


async def test_a_decision_puts_the_run_back_with_the_approved_arguments(ledger: Ledger, instance: Instance) -> None:
    run_id = await waiting(ledger, instance)
    before = await ledger.run(run_id)
    assert before is not None
    assert before.confirmation is not None
    assert (before.confirmation.message, before.confirmation.confirmed, before.stop_by) == ("Really?", None, None)

    changed = await ledger.decide(run_id, "c1", True, "fine", {"sum": 8}, "boss")

    assert (changed.run.status, changed.run.owner) == (RunStatus.RUNNING, None)
    given = await instance.start()
    assert given.resume is not None
    assert (given.resume.decision.confirmed, given.resume.decision.arguments) == (True, {"sum": 8})
    assert (await instance.send(given, end())).run is not None
    assert await kinds(ledger, run_id) == ["started", "confirmation", "started", "end"]


async def test_a_run_may_ask_again_even_under_the_same_id(ledger: Ledger, instance: Instance) -> None:
    run_id = await waiting(ledger, instance)
    await ledger.decide(run_id, "c1", True, "", None, "boss")
    await instance.send(await instance.start(), asking())

    run = await ledger.run(run_id)
    assert run is not None
    assert run.confirmation is not None
    assert run.confirmation.confirmed is None
    assert (await ledger.decide(run_id, "c1", False, "", None, "boss")).run.status is RunStatus.RUNNING


async def test_of_two_decisions_one_counts(ledger: Ledger, other_ledger: Ledger, instance: Instance) -> None:
    run_id = await waiting(ledger, instance)

    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(one.decide(run_id, "c1", yes, "", None, "x") for one, yes in ((ledger, True), (other_ledger, False))),
            return_exceptions=True,
        )

    assert sorted(type(answer).__name__ for answer in answers) == [Changed.__name__, ConfirmationDecided.__name__]
    run = await ledger.run(run_id)
    assert run is not None
    assert run.confirmation is not None
    assert run.confirmation.confirmed is isinstance(answers[0], Changed)


async def test_a_decision_needs_a_run_that_waits_for_it(ledger: Ledger, instance: Instance) -> None:
    run_id = await waiting(ledger, instance)
    other = (await ledger.accept(new())).run.id
    for run, confirmation in ((run_id, "c2"), (other, "c1"), ("nothing", "c1")):
        with pytest.raises(RunNotFound):
            await ledger.decide(run, confirmation, True, "", None, "x")

    await ledger.cancel(run_id, "ann")

    with pytest.raises(ConfirmationDecided, match="cancelled"):
        await ledger.decide(run_id, "c1", True, "", None, "x")
    with pytest.raises(RunNotFound):
        await ledger.cancel("nothing", "x")


async def test_a_confirmation_that_expired_was_not_denied(ledger: Ledger, instance: Instance) -> None:
    late, swept = await waiting(ledger, instance, expires_in_s=0.0), await waiting(ledger, instance)
    with pytest.raises(ConfirmationDecided, match="expired"):
        await ledger.decide(late, "c1", True, "", None, "x")

    changed = (await ledger.sweep(now() + timedelta(days=2), verdicts=False, grace_s=0)).changed

    assert {one.run.id for one in changed} == {late, swept}
    assert {(one.run.status, one.run.reason) for one in changed} == {(RunStatus.EXPIRED, "confirmation_expired")}
    assert await kinds(ledger, swept) == ["started", "confirmation", "end"]
    with pytest.raises(ConfirmationDecided, match="expired"):
        await ledger.decide(swept, "c1", True, "", None, "x")


async def test_the_audit_says_who_ran_cancelled_and_decided_what(ledger: Ledger, instance: Instance) -> None:
    run_id = await waiting(ledger, instance)
    await ledger.decide(run_id, "c1", False, "", None, "boss")
    given = await instance.take()
    await instance.send(given, STARTED)
    await ledger.cancel(run_id, "bob")
    await ledger.accept(new(workspace="umbrella"))

    rows = await ledger.audit("acme")

    assert [(row.actor, row.action, row.outcome, row.run_id) for row in rows] == [
        ("user:ann", "run", "accepted", run_id),
        ("boss", "reject", "accepted", run_id),
        ("bob", "cancel", "requested", run_id),
    ]
    assert len(await ledger.audit()) == 4
    assert await ledger.audit("acme", after=rows[1].id) == rows[2:]
    assert await ledger.audit("acme", limit=1) == rows[:1]


async def test_arguments_that_no_instance_could_be_given_are_refused_and_the_run_waits_on(
    ledger: Ledger, instance: Instance
) -> None:
    run_id = (await ledger.accept(new(message="m" * 500_000))).run.id
    await instance.send(await instance.start(), asking())

    with pytest.raises(TooLarge):
        await ledger.decide(run_id, "c1", True, "", {"sum": "9" * 500_000}, "ann")
    decided = await ledger.decide(run_id, "c1", True, "", {"sum": 9}, "ann")

    assert decided.run.status is RunStatus.RUNNING
