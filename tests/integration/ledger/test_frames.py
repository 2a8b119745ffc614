"""Events are recorded once, in order, and only when the run's present owner sends them."""

import asyncio
from datetime import timedelta

import pytest

from management_api.store import Ledger
from opmas.wire.messages import now
from opmas.wire.runs import Assignment, EventKind, Frame, FrameReply, RunEvent, RunStatus
from tests.integration.ledger.making import STARTED, Instance, asking, chunk, end, kinds, new


@pytest.fixture
async def given(ledger: Ledger, instance: Instance) -> Assignment:
    await ledger.accept(new())
    return await instance.take()


async def test_a_run_goes_from_its_start_to_its_end(ledger: Ledger, instance: Instance, given: Assignment) -> None:
    started = await instance.send(given, STARTED)
    middle = await instance.send(given, chunk("a"), chunk("b\n\u2028"))
    done = await instance.send(given, end("ab", data={"x": [None, 1]}))

    assert [answer.reply for answer in (started, middle, done)] == [FrameReply(seq=seq) for seq in (1, 3, 4)]
    assert [answer.run and answer.run.status for answer in (started, middle, done)] == [
        RunStatus.RUNNING, None, RunStatus.COMPLETED,
    ]  # fmt: skip
    assert await kinds(ledger, given.run_id) == ["started", "chunk", "chunk", "end"]
    assert await ledger.events(given.run_id) == (*started.events, *middle.events, *done.events)
    run = await ledger.run(given.run_id)
    assert run is not None
    assert (run.status, run.content, run.data, run.owner) == (RunStatus.COMPLETED, "ab", {"x": [None, 1]}, None)
    assert run.usage is not None
    assert run.usage.total_tokens == 5
    assert run.started_at is not None
    assert run.ended_at is not None


async def test_events_are_read_in_pages_from_any_number(ledger: Ledger, instance: Instance, given: Assignment) -> None:
    await instance.send(given, STARTED, *map(chunk, "abc"))
    await instance.send(given, *map(chunk, "def"), end())

    for after in range(9):
        page = await ledger.events(given.run_id, after, limit=3)
        assert [event.seq for event in page] == list(range(after + 1, min(after + 4, 9)))
    assert RunEvent.model_validate_json((await ledger.events(given.run_id, 4, 1))[0].json).content == "d"
    assert await ledger.events("nothing") == ()


async def test_frames_sent_again_or_in_part_add_only_what_is_new(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    await instance.send(given, STARTED, chunk("a"))

    again = await instance.send(given, STARTED, chunk("a"), at=1)
    overlap = await instance.send(given, chunk("a"), chunk("b"), at=2)
    gap = await instance.send(given, chunk("d"), at=5)

    assert [(answer.reply.seq, len(answer.events)) for answer in (again, overlap, gap)] == [(2, 0), (3, 1), (3, 0)]
    assert await kinds(ledger, given.run_id) == ["started", "chunk", "chunk"]


async def test_frames_of_one_run_that_come_together_are_one_sequence(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    events = [STARTED, *map(chunk, "abcdefgh"), end()]

    async with asyncio.timeout(20):
        await asyncio.gather(*(instance.send(given, *events[:count], at=1) for count in range(1, len(events) + 1)))

    assert await kinds(ledger, given.run_id) == ["started", *["chunk"] * 8, "end"]


async def test_the_last_frame_may_be_sent_again_after_the_end(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    await instance.send(given, STARTED, end())

    assert (await instance.send(given, end(), at=2)).reply == FrameReply(seq=2)
    late = await instance.send(given, chunk("late"), at=3)
    assert late.reply.fenced
    assert (await instance.send(given, at=3)).reply.fenced
    assert await kinds(ledger, given.run_id) == ["started", "end"]


@pytest.mark.parametrize("wrong", ["epoch", "instance", "agent", "run"])
async def test_who_does_not_hold_the_run_is_fenced_and_changes_nothing(
    ledger: Ledger, instance: Instance, given: Assignment, wrong: str
) -> None:
    await instance.send(given, STARTED)
    before = await ledger.run(given.run_id)
    frame = Frame(
        instance_id="echo-9" if wrong == "instance" else "echo-0",
        epoch=given.epoch + (wrong == "epoch"),
        first_seq=2,
        events=(end(),),
    )

    answer = await ledger.record(
        "other" if wrong == "agent" else "echo", "x" if wrong == "run" else given.run_id, frame, 30
    )

    assert answer.reply.fenced
    assert answer.reply.reason
    assert answer.events == ()
    assert await ledger.run(given.run_id) == before


async def test_a_frame_renews_the_lease_also_when_it_is_empty(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    before = await ledger.run(given.run_id)
    instance.lease_s = 300

    assert (await instance.send(given)).reply == FrameReply(seq=0)

    after = await ledger.run(given.run_id)
    assert before is not None
    assert after is not None
    assert before.lease_until is not None
    assert after.lease_until is not None
    assert (after.lease_until - before.lease_until).total_seconds() > 260
    assert after.status is RunStatus.PENDING


async def test_nothing_counts_after_the_event_that_gives_the_run_up(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    answer = await instance.send(given, STARTED, asking(), chunk("a"), end())

    assert answer.reply.seq == 2
    assert answer.run is not None
    assert answer.run.status is RunStatus.WAITING_CONFIRMATION
    assert await kinds(ledger, given.run_id) == ["started", "confirmation"]


async def test_an_end_that_is_not_an_instance_to_say_is_a_failure(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    odd = RunEvent(kind=EventKind.END)

    answer = await instance.send(given, STARTED, odd)

    assert answer.run is not None
    assert (answer.run.status, answer.run.reason) == (RunStatus.FAILED, "failed")
    await ledger.accept(new())
    other = await instance.start()
    assert (await instance.send(other, end(status=RunStatus.EXPIRED))).run is not None
    stored = RunEvent.model_validate_json((await ledger.events(other.run_id))[-1].json)
    assert stored.end is not None
    assert stored.end.status is RunStatus.FAILED


async def test_a_run_may_fail_before_its_handler_is_called(
    ledger: Ledger, instance: Instance, given: Assignment
) -> None:
    answer = await instance.send(given, end(status=RunStatus.FAILED, error="no such handler", reason="broken"))

    assert answer.run is not None
    assert (answer.run.status, answer.run.error, answer.run.reason) == (RunStatus.FAILED, "no such handler", "broken")
    assert answer.run.started_at is None


async def test_a_frame_that_the_database_refuses_fails_alone(ledger: Ledger) -> None:
    instances = [Instance(ledger, f"echo-{number}") for number in range(6)]
    for _ in instances:
        await ledger.accept(new())
    held = [await instance.take() for instance in instances]
    lone = RunEvent.model_construct(kind=EventKind.CHUNK, content="\ud800", time=STARTED.time)

    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(
                instance.send(given, STARTED.model_copy() if number != 3 else lone)
                for number, (instance, given) in enumerate(zip(instances, held, strict=True))
            ),
            return_exceptions=True,
        )

    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [3]


async def test_an_answer_too_long_for_the_end_is_what_its_chunks_say(ledger: Ledger, instance: Instance) -> None:
    run_id = (await ledger.accept(new())).run.id
    given = await instance.start()
    await instance.send(given, chunk("to be, "), chunk("or "))

    await instance.send(given, chunk("not"), end(content=""))

    row = await ledger.run(run_id)
    assert row is not None
    assert row.content == "to be, or not"


async def test_an_answer_put_together_has_nothing_of_lost_attempts(ledger: Ledger, instance: Instance) -> None:
    run_id = (await ledger.accept(new(spec={"on_lost": "retry"}))).run.id
    for said in ("lost", "lost too"):
        await instance.send(await instance.start(), chunk(said))
        await ledger.sweep(now() + timedelta(seconds=31), verdicts=True, grace_s=5)
    await instance.send(await instance.start(), chunk("to be, "), asking())
    await ledger.decide(run_id, "c1", True, "", None, "ann")

    await instance.send(await instance.start(), chunk("or not"), end(content=""))

    row = await ledger.run(run_id)
    assert row is not None
    assert row.content == "to be, or not"
