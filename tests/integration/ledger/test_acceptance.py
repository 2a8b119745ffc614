"""A run is accepted once per request, into the right session, and not beyond the queue."""

import asyncio
from datetime import timedelta

import pytest

from management_api.store import Ledger
from management_api.store.acceptance import SAME_WITHIN
from management_api.store.rows import RunFilter
from opmas.wire.errors import IdempotencyConflict, QueueFull, SessionBusy
from opmas.wire.messages import now
from opmas.wire.runs import FileRef, RunStatus
from tests.integration.ledger.making import ENQUEUE, INTERRUPT, REJECT, STARTED, Instance, kinds, new


async def test_what_was_accepted_is_on_record_as_it_was_asked(ledger: Ledger) -> None:
    file = FileRef(file_id="f", name="n.txt", type="text/plain", size=3)
    asked = new(message="hé\0llo", params={"a": [1, None]}, files=(file,), metadata={"m": "x"}, parent_run="p")

    accepted = await ledger.accept(asked)

    run = await ledger.run(asked.run_id)
    assert run is not None
    assert accepted.created
    assert (run.status, run.message, run.params, run.files) == (
        RunStatus.PENDING, "hé\ufffdllo", {"a": [1, None]}, (file,),
    )  # fmt: skip
    assert (run.metadata, run.parent_run, run.spec, run.workspace) == ({"m": "x"}, "p", asked.spec, "acme")
    assert run.start_by == asked.created_at + timedelta(seconds=asked.spec.start_within_s)
    assert await ledger.run("other") is None


@pytest.mark.parametrize("mark", ["idempotency_key", "correlation_id"])
async def test_of_identical_requests_at_once_one_makes_the_run(ledger: Ledger, other_ledger: Ledger, mark: str) -> None:
    asked = [new(session_id="s", **{mark: "k"}) for _ in range(20)]

    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(ledger.accept(one) for one in asked[::2]), *(other_ledger.accept(one) for one in asked[1::2])
        )

    assert len({answer.run.id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert (await ledger.runs(RunFilter()))[1] == 1


async def test_a_key_used_for_another_request_is_refused_in_its_workspace_alone(ledger: Ledger) -> None:
    first = await ledger.accept(new(idempotency_key="k"))

    with pytest.raises(IdempotencyConflict):
        await ledger.accept(new(idempotency_key="k", request_hash="another"))

    assert (await ledger.accept(new(idempotency_key="k", workspace="umbrella"))).created
    again = await ledger.accept(new(idempotency_key="k"))
    assert (again.run.id, again.created) == (first.run.id, False)


async def test_without_a_key_a_correlation_id_joins_equal_requests_for_a_minute(ledger: Ledger) -> None:
    asked = new(correlation_id="c")
    first = (await ledger.accept(asked)).run

    assert (await ledger.accept(new(correlation_id="c"))).run.id == first.id
    for different in (
        new(correlation_id="c", request_hash="another"),
        new(correlation_id="c", workspace="umbrella"),
        new(correlation_id="c", agent_id="other"),
        new(correlation_id="c", created_at=asked.created_at + SAME_WITHIN * 2),
        new(correlation_id=""),
        new(correlation_id="c" * 10_000),
    ):
        assert (await ledger.accept(different)).created


async def test_an_equal_request_is_found_among_many_of_its_correlation_id(ledger: Ledger) -> None:
    many = [new(correlation_id="c", request_hash=str(number)) for number in range(501)]
    accepted = await asyncio.gather(*map(ledger.accept, many))

    again = await ledger.accept(new(correlation_id="c", request_hash="500"))

    assert again.run.id == accepted[500].run.id


async def test_a_run_that_has_ended_is_not_the_answer_to_a_correlation_id(ledger: Ledger) -> None:
    first = (await ledger.accept(new(correlation_id="c"))).run
    await ledger.cancel(first.id, "ann")

    assert (await ledger.accept(new(correlation_id="c"))).created


async def test_a_full_queue_refuses_until_a_run_is_claimed(ledger: Ledger, instance: Instance) -> None:
    short = {"queue": 2}
    answers = await asyncio.gather(*(ledger.accept(new(spec=short)) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(QueueFull) == 1

    with pytest.raises(QueueFull):
        await ledger.accept(new(spec=short))
    await instance.claim()

    assert (await ledger.accept(new(spec=short))).created


async def test_a_session_is_joined_by_its_agent_and_user_and_begun_by_whoever_names_it_first(ledger: Ledger) -> None:
    async def session(**fields: str) -> str:
        return (await ledger.accept(new(**fields))).run.session_id

    assert await session(session_id="mine") == "mine"
    assert await session(session_id="mine") == "mine"
    assert await session(session_id="mine", workspace="umbrella") == "mine"
    for fields in (
        {"session_id": "mine", "user_id": "bob"},
        {"session_id": "mine", "agent_id": "other"},
        {"session_id": "no blanks"},
        {"session_id": "x" * 201},
        {},
    ):
        assert len(await session(**fields)) == 32
    row = await ledger.session("acme", "mine")
    assert row is not None
    assert (row.run_count, row.title) == (2, "hello")


async def test_a_busy_session_refuses_or_interrupts_as_the_agent_says(ledger: Ledger, instance: Instance) -> None:
    for spec in (REJECT, INTERRUPT):
        assert (await ledger.accept(new(session_id="s1", spec=spec))).interrupted == ()
        with pytest.raises(SessionBusy):
            await ledger.accept(new(session_id="s1", spec=REJECT))
        await ledger.accept(new(session_id="s2", spec=ENQUEUE))
        held = await instance.claim(2)
        for given in held:
            await instance.send(given, STARTED)
        waiting = await ledger.accept(new(session_id="s1", spec=ENQUEUE))

        cut = (await ledger.accept(new(session_id="s1", spec=INTERRUPT))).interrupted

        assert [run.id for run in cut] == [held[0].run_id, waiting.run.id]
        assert [run.status for run in cut] == [RunStatus.RUNNING, RunStatus.CANCELLED]
        assert cut[0].cancel_requested
        assert await kinds(ledger, waiting.run.id) == ["end"]
        for number in (1, 2):
            for run in (await ledger.runs(RunFilter(session_id=f"s{number}")))[0]:
                await ledger.cancel(run.id, "ann")
        await ledger.sweep(now() + timedelta(seconds=60), verdicts=True, grace_s=0)


async def test_runs_accepted_together_know_of_each_other(ledger: Ledger) -> None:
    answers = await asyncio.gather(
        *(ledger.accept(new(session_id="s", spec=REJECT)) for _ in range(5)), return_exceptions=True
    )

    assert [type(answer) for answer in answers].count(SessionBusy) == 4


async def test_two_servers_accept_into_a_session_that_takes_one_run_at_a_time(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    await ledger.create_session(workspace="acme", agent_id="echo", user_id="ann", title="t", session_id="s")

    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(one.accept(new(session_id="s", spec=REJECT)) for one in (ledger, other_ledger) * 5),
            return_exceptions=True,
        )

    assert [type(answer) for answer in answers].count(SessionBusy) == 9
