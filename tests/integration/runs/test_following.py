"""Following runs: every event once and in order, at any API, however slow the reader and whatever was lost."""

import asyncio
from collections import Counter

import pytest

from management_api.runs import Timings
from management_api.store.rows import RunRow
from opmas.wire.errors import RunNotFound
from opmas.wire.runs import RunStatus
from tests.integration.api.peer import Peer
from tests.integration.runs.service import Service, serving_runs
from tests.integration.runs.worker import STARTED, Worker, ask, chunk, end


async def _worked(worker: Worker, frames: int = 5) -> None:
    given = await worker.take()
    await worker.report(given, STARTED)
    for number in range(frames):
        await worker.report(given, chunk(f"{number}"))
    await worker.report(given, end("done"))


async def _numbers(service: Service, run: RunRow, after: int = 0) -> list[int]:
    return [event.seq for event in await service.log(run, after)]


async def test_a_slow_reader_misses_nothing(service: Service, worker: Worker) -> None:
    run = await service.run()
    given = await worker.take()
    await worker.report(given, STARTED)
    events = service.runs.follow(run, 0)
    first = await anext(events)

    for frame in range(30):  # more than is kept for readers
        await worker.report(given, *(chunk(f"{frame}/{number}" + "x" * 100) for number in range(50)))
    await worker.report(given, end())

    assert first is not None
    assert [event.seq async for event in events if event is not None] == list(range(2, 1503))
    assert await _numbers(service, run) == list(range(1, 1503))
    assert await _numbers(service, run, after=1500) == [1501, 1502]
    assert await _numbers(service, await service.read(run), after=1502) == []


async def test_five_hundred_follow_one_run(service: Service, worker: Worker) -> None:
    run = await service.run()
    logs = [asyncio.create_task(_numbers(service, run)) for _ in range(500)]
    waiting = [asyncio.create_task(service.settled(run)) for _ in range(100)]

    await _worked(worker, frames=20)

    assert Counter(map(tuple, await asyncio.gather(*logs))) == {tuple(range(1, 23)): 500}
    assert {ended.status for ended in await asyncio.gather(*waiting)} == {RunStatus.COMPLETED}
    assert not service.runs._hub._topics.get("nobody")


async def test_each_of_two_apis_shows_what_the_other_records(
    database_url: str, nats_url: str, agent_id: str, peer: Peer, worker: Worker
) -> None:
    async with (
        serving_runs(database_url, nats_url, agent_id) as a,
        serving_runs(database_url, nats_url, agent_id) as b,
    ):
        runs = [await (a, b)[number % 2].run(f"{number}") for number in range(6)]
        logs = [asyncio.create_task(_numbers(api, run)) for run in runs for api in (a, b)]
        waiting = [asyncio.create_task(api.settled(run)) for run in runs for api in (a, b)]
        for _ in runs:  # each frame goes to one of the two
            await _worked(worker)

        assert await asyncio.gather(*logs) == [[1, 2, 3, 4, 5, 6, 7]] * 12
        assert {(run.status, run.content) for run in await asyncio.gather(*waiting)} == {(RunStatus.COMPLETED, "done")}


async def test_a_notice_that_was_lost_is_made_good(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer, worker: Worker
) -> None:
    quick = Timings(look_s=0.1)
    async with serving_runs(sqlite_url, nats_url, agent_id, timings=quick) as b:
        run = await b.run()
        log, waiting = asyncio.create_task(_numbers(b, run)), asyncio.create_task(b.settled(run))
        await b.runs._desk.close(1)  # it hears neither instances nor notices any more
        async with serving_runs(sqlite_url, nats_url, agent_id) as a:
            await a.read(run)
            await _worked(worker)

        assert await log == [1, 2, 3, 4, 5, 6, 7]
        assert (await waiting).status is RunStatus.COMPLETED


async def test_silence_is_broken_and_a_stop_ends_all_who_wait(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with serving_runs(sqlite_url, nats_url, agent_id, timings=Timings(keep_alive_s=0.05)) as service:
        run = await service.run()
        events = service.runs.follow(run, 0)
        waiting = asyncio.create_task(service.settled(run))

        assert await anext(events) is None
        service.runs.stop()

        assert [event async for event in events] == []
        assert (await waiting).status is RunStatus.PENDING


async def test_who_waits_again_after_a_decision_hears_of_the_next_stop(service: Service, worker: Worker) -> None:
    run = await service.run()
    given = await worker.take()
    await worker.report(given, STARTED, ask())
    first = await service.settled(run)

    assert first.status is RunStatus.WAITING_CONFIRMATION
    assert (await service.settled(first)) is first
    assert (await service.settled(await service.read(run))).status is RunStatus.WAITING_CONFIRMATION


async def test_who_follows_a_run_that_is_deleted_is_told(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer, worker: Worker
) -> None:
    async with serving_runs(sqlite_url, nats_url, agent_id) as a:
        run = await a.run()
        quick = Timings(keep_alive_s=0.05, look_s=0.05)
        async with serving_runs(sqlite_url, nats_url, agent_id, timings=quick) as b:
            events = b.runs.follow(run, 0)
            assert await anext(events) is None  # it listens now
            await b.runs._desk.close(1)  # so that it has to read what happened
            await worker.finish()
            await a.settled(run)
            async with asyncio.timeout(10):
                topic = b.runs._hub._topics[run.id]
                while topic.seq < 2:
                    await topic.changed(topic.version)
            await a.runs.ledger.delete_session(run.workspace, run.session_id)

            with pytest.raises(RunNotFound, match="deleted"):
                await anext(events)
