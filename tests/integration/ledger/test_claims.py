"""Each run is given to one instance at a time, in order, with all that its handler needs."""

import asyncio
from datetime import timedelta

from management_api.store import Ledger
from management_api.store.claims import MAX_ANSWER
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus
from tests.integration.ledger.making import STARTED, Instance, asking, chunk, end, kinds, new


async def accept(ledger: Ledger, *sessions: str | None) -> list[str]:
    return [(await ledger.accept(new(session_id=one))).run.id for one in sessions]


async def test_an_assignment_has_what_was_asked_and_under_which_terms(ledger: Ledger, instance: Instance) -> None:
    asked = new(session_id="s", params={"a": 1}, metadata={"b": 2}, correlation_id="c", spec={"limits": {"tokens": 9}})
    await ledger.accept(asked)

    given = await instance.take()

    assert (given.run_id, given.epoch, given.next_seq, given.attempt) == (asked.run_id, 1, 1, 1)
    assert (given.limits.tokens, given.history, given.resume) == (9, (), None)
    assert given.input.model_dump() == {
        "message": "hello", "params": {"a": 1}, "files": (), "metadata": {"b": 2}, "workspace_id": "acme",
        "user_id": "ann", "session_id": "s", "correlation_id": "c",
    }  # fmt: skip
    run = await ledger.run(asked.run_id)
    assert run is not None
    assert (run.status, run.owner, run.owner_start) == (RunStatus.PENDING, "echo-0", 1)
    assert await instance.claim() == ()


async def test_runs_are_given_in_the_order_they_came_and_only_to_their_agent(
    ledger: Ledger, instance: Instance
) -> None:
    ids = await accept(ledger, None, None, None)
    await ledger.accept(new(agent_id="other"))

    assert [given.run_id for given in await instance.claim(2)] == ids[:2]
    assert [given.run_id for given in await instance.claim(8)] == ids[2:]


async def test_two_servers_that_give_out_runs_give_each_once(ledger: Ledger, other_ledger: Ledger) -> None:
    ids = await accept(ledger, *[None] * 30)
    instances = [Instance(one, f"echo-{n}") for n, one in enumerate((ledger, other_ledger) * 8)]

    async with asyncio.timeout(20):
        given = await asyncio.gather(*(instance.claim(2) for instance in instances))

    assert sorted(one.run_id for some in given for one in some) == sorted(ids)


async def test_runs_of_a_session_wait_for_those_before_them(ledger: Ledger, instance: Instance) -> None:
    first, second, third = await accept(ledger, "s", "s", "t")

    held = await instance.claim(8)
    assert [given.run_id for given in held] == [first, third]
    assert await instance.claim(8) == ()
    await instance.send(held[0], STARTED, end())

    assert (await instance.take()).run_id == second


async def test_two_servers_keep_the_order_of_a_session(ledger: Ledger, other_ledger: Ledger) -> None:
    ids = await accept(ledger, *["s"] * 6)
    done: list[str] = []
    pair = [Instance(one, f"echo-{n}") for n, one in enumerate((ledger, other_ledger))]

    async with asyncio.timeout(20):
        while len(done) < len(ids):
            claims = await asyncio.gather(*(one.claim(3) for one in pair))
            ((instance, given),) = [(one, run) for one, some in zip(pair, claims, strict=True) for run in some]
            await instance.send(given, STARTED, end())
            done.append(given.run_id)

    assert done == ids


async def test_a_run_that_waits_for_a_human_holds_nobody_up(ledger: Ledger, instance: Instance) -> None:
    first, second = await accept(ledger, "s", "s")
    await instance.send(await instance.start(), asking())

    given = await instance.take()
    assert given.run_id == second
    await ledger.decide(first, "c1", True, "", None, "ann")
    assert await instance.claim() == ()  # the session's other run is held

    await instance.send(given, STARTED, end())
    assert (await instance.take()).run_id == first


async def test_the_history_is_what_was_asked_and_answered_before(ledger: Ledger, instance: Instance) -> None:
    for message, answer in (("one", end("1")), ("two", end("", status=RunStatus.FAILED)), ("three", end("3"))):
        await ledger.accept(new(session_id="s", message=message))
        await instance.send(await instance.take(), STARTED, answer)
    await ledger.accept(new(session_id="s"))
    await ledger.accept(new(session_id="t"))

    given, fresh = await instance.claim(2)

    assert [(turn.role, turn.content) for turn in given.history] == [
        ("user", "one"), ("assistant", "1"), ("user", "three"), ("assistant", "3"),
    ]  # fmt: skip
    assert fresh.history == ()


async def test_the_history_is_the_newest_part_of_a_long_talk(ledger: Ledger, instance: Instance) -> None:
    for number in range(28):
        text = "x" * 90_000 if number == 27 else str(number)
        await ledger.accept(new(session_id="s", message=text))
        await instance.send(await instance.take(), STARTED, end(text))
    await ledger.accept(new(session_id="s"))
    history = (await instance.take()).history
    assert (len(history), history[0].content, history[-1].content) == (50, "3", "x" * 90_000)

    await ledger.accept(new(session_id="t", message="y" * 150_000))
    await instance.send(await instance.take(), STARTED, end("y" * 150_000))
    await ledger.accept(new(session_id="t"))
    assert (await instance.take()).history == ()


async def test_what_would_make_an_answer_too_big_is_given_next_time(ledger: Ledger, instance: Instance) -> None:
    for _ in range(3):
        await ledger.accept(new(message="x" * (MAX_ANSWER // 2 - 1000)))

    answers = [await ledger.claim("echo", "echo-0", 1, 8, 30.0) for _ in range(3)]

    assert [(len(each.assignments), each.more) for each in answers] == [(2, True), (1, False), (0, False)]

    await ledger.accept(new(message="x" * (MAX_ANSWER + 1)))
    assert len(await instance.claim(8)) == 1


async def test_the_next_owner_goes_on_after_the_last_event(ledger: Ledger, instance: Instance) -> None:
    (run_id,) = await accept(ledger, None)
    first = await instance.start()
    await instance.send(first, chunk("a"), asking())
    await ledger.decide(run_id, "c1", False, "too much", None, "boss")

    given = await instance.take()

    assert (given.epoch, given.next_seq) == (2, 4)
    assert given.resume is not None
    assert given.resume.model_dump(exclude={"decision"}) == {"name": "paid", "state": {"step": 2}}
    assert given.resume.decision.model_dump() == {
        "confirmation_id": "c1", "confirmed": False, "note": "too much", "arguments": {"sum": 9}, "decided_by": "boss",
    }  # fmt: skip


async def test_who_never_heard_an_answer_is_given_its_runs_anew_but_none_that_it_began(
    ledger: Ledger, instance: Instance
) -> None:
    begun, unheard = await accept(ledger, None, None)
    await instance.start()
    await ledger.claim("echo", instance.id, instance.start_count, 1, 30.0)

    given = await ledger.claim("echo", instance.id, instance.start_count, 5, 30.0, unheard=True)

    assert [(each.run_id, each.epoch) for each in given.assignments] == [(unheard, 2)]
    row = await ledger.run(begun)
    assert row is not None
    assert row.owner == instance.id


async def test_what_was_cancelled_is_not_given_anew(ledger: Ledger, instance: Instance) -> None:
    (run_id,) = await accept(ledger, None)
    await instance.take()
    await ledger.cancel(run_id, "ann")

    given = await ledger.claim("echo", instance.id, instance.start_count, 5, 30.0, unheard=True)
    assert given.assignments == ()

    (ended,) = (await ledger.sweep(now() + timedelta(seconds=31), verdicts=True, grace_s=5)).changed
    assert ended.run.status is RunStatus.CANCELLED


async def test_a_run_too_large_for_any_instance_fails_and_lets_the_next_one_pass(
    ledger: Ledger, instance: Instance
) -> None:
    large = (await ledger.accept(new(message="m" * 600_000))).run.id
    question = asking()
    assert question.confirmation is not None
    kept = question.confirmation.model_copy(update={"state": "k" * 450_000})
    await instance.send(await instance.start(), question.model_copy(update={"confirmation": kept}))
    await ledger.decide(large, "c1", True, "", None, "ann")
    small = (await ledger.accept(new())).run.id

    given = await instance.claim(2)

    assert [one.run_id for one in given] == [small]
    failed = await ledger.run(large)
    assert failed is not None
    assert (failed.status, failed.reason, failed.owner) == (RunStatus.FAILED, "too_large", None)
    assert (await kinds(ledger, large))[-1] == "end"


async def test_what_was_said_before_is_left_out_where_a_run_needs_all_the_room(
    ledger: Ledger, instance: Instance
) -> None:
    first = (await ledger.accept(new(message="b" * 90_000))).run
    await instance.send(await instance.start(), end())
    await ledger.accept(new(message="m" * 950_000, session_id=first.session_id))

    assert (await instance.take()).history == ()
