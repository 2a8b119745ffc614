"""Instances that fall silent, and those that only seem to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from management_api.runs import Timings
from opmas.wire.errors import DatabaseUnavailable, DeadlineExceeded
from opmas.wire.runs import OnLost, RunSpec, RunStatus
from tests.integration.api.peer import Peer, agent, serving
from tests.integration.bus.conftest import Server
from tests.integration.runs.service import caller, serving_runs
from tests.integration.runs.worker import STARTED, end, working

QUICK = Timings(lease_s=0.4, sweep_s=0.05)


@pytest.fixture
async def server(free_port: Callable[[], int], tmp_path: Path) -> AsyncIterator[Server]:
    """Run a nats-server of the test's own."""
    own = Server(free_port(), tmp_path)
    await own.start()
    yield own
    await own.kill()


async def test_what_a_silent_instance_had_begun_is_interrupted_and_what_it_had_not_is_given_to_another(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with (
        serving_runs(sqlite_url, nats_url, agent_id, timings=QUICK) as service,
        working(nats_url, agent_id) as silent,
    ):
        begun, untouched = await service.run("one"), await service.run("two")
        given, idle = await silent.claim(room=2)
        await silent.report(given, STARTED)

        ended = await service.settled(begun)
        again = await silent.take()

        assert (given.run_id, idle.run_id) == (begun.id, untouched.id)
        assert ended.status is RunStatus.INTERRUPTED
        assert (again.run_id, again.epoch > idle.epoch) == (untouched.id, True)
        assert (await silent.report(given)).fenced
        assert (await silent.report(idle, STARTED)).fenced


async def test_a_newer_process_of_a_slot_settles_what_the_older_had(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    idempotent = RunSpec(on_lost=OnLost.RETRY)
    peer.known[agent_id] = agent(agent_id).model_copy(update={"runs": idempotent})
    async with serving_runs(sqlite_url, nats_url, agent_id) as service:
        run = await service.run()
        async with working(nats_url, agent_id, start_count=1) as older:
            await older.report(await older.take(), STARTED)

        async with working(nats_url, agent_id, start_count=2) as newer:  # long before the lease is over
            (again,) = await newer.claim()
            await newer.report(again, STARTED, end("at last"))

        assert again.attempt == 2
        assert (await service.settled(run)).content == "at last"
        assert [event.seq for event in await service.log(run)] == [1, 2, 3]


async def test_an_instance_survives_an_api_that_was_away_for_longer_than_its_lease(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with working(nats_url, agent_id) as worker:
        async with serving_runs(sqlite_url, nats_url, agent_id, timings=Timings(lease_s=0.01, sweep_s=60)) as service:
            run = await service.run()
            given = await worker.take()
            await worker.report(given, STARTED)
        # The lease is over by now; the next API gives a full one of its own before it judges.
        async with serving_runs(sqlite_url, nats_url, agent_id, timings=Timings(sweep_s=0.02)) as service:
            assert (await service.runs.settled(run, 0.3)).status is not RunStatus.INTERRUPTED
            await worker.report(given, end("still here"))

            assert (await service.settled(run)).content == "still here"


async def test_a_run_that_outlives_its_time_is_ended_and_its_instance_told(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    spec = RunSpec.model_validate({"limits": {"wall_time_s": 0.2}})
    peer.known[agent_id] = agent(agent_id).model_copy(update={"runs": spec})
    timings = Timings(lease_s=1.0, sweep_s=0.05, grace_s=0.1)
    async with (
        serving_runs(sqlite_url, nats_url, agent_id, timings=timings) as service,
        working(nats_url, agent_id) as worker,
    ):
        run = await service.run()
        given = await worker.take()
        await worker.report(given, STARTED)
        while not (await worker.report(given)).fenced:
            pass

        assert await worker.told_to_stop.get() == run.id
        assert (await service.settled(run)).reason == "time_limit"


async def test_runs_are_accepted_and_followed_while_nats_is_away_and_done_when_it_is_back(
    sqlite_url: str, server: Server, agent_id: str
) -> None:
    async with serving(server.url) as peer, serving_runs(sqlite_url, server.url, agent_id) as service:
        peer.known = {agent_id: agent(agent_id)}
        await service.runs.cancel(caller(), agent_id, (await service.run()).id)
        service.runs._directory._fresh_s = 0
        await server.kill()

        run = await service.run("while it is away")
        waiting = asyncio.create_task(service.settled(run))
        await server.start()
        async with working(server.url, agent_id) as worker:
            await worker.nudged.wait()
            await worker.finish()

        assert (await waiting).status is RunStatus.COMPLETED


async def test_no_lease_is_judged_while_nats_is_frozen(sqlite_url: str, server: Server, agent_id: str) -> None:
    async with serving(server.url) as peer, serving_runs(sqlite_url, server.url, agent_id, timings=QUICK) as service:
        peer.known = {agent_id: agent(agent_id)}
        async with working(server.url, agent_id) as worker:
            run = await service.run()
            given = await worker.take()
            await worker.report(given, STARTED)
            await server.freeze()
            still = await service.runs.settled(run, 3 * QUICK.lease_s)
            server.thaw()

            assert still.status is RunStatus.RUNNING
            assert not (await worker.report(given, end())).fenced


async def test_leases_are_judged_while_a_manager_keeps_silent(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with (
        serving_runs(sqlite_url, nats_url, agent_id, timings=replace(QUICK, orphans_s=0.05)) as service,
        working(nats_url, agent_id) as silent,
    ):
        run, _ = await service.run("one"), await service.run("two")
        peer.answers["get"] = None
        await silent.report(await silent.take(), STARTED)

        assert (await service.runs.settled(run, 4)).status is RunStatus.INTERRUPTED


async def test_no_lease_is_judged_while_nats_is_away(sqlite_url: str, server: Server, agent_id: str) -> None:
    async with serving(server.url) as peer, serving_runs(sqlite_url, server.url, agent_id, timings=QUICK) as service:
        peer.known = {agent_id: agent(agent_id)}
        run = await service.run()
        async with working(server.url, agent_id) as worker:
            await worker.report(await worker.take(), STARTED)
            await server.kill()

            assert (await service.runs.settled(run, 3 * QUICK.lease_s)).status is RunStatus.RUNNING
            await server.start()

        assert (await service.settled(run)).status is RunStatus.INTERRUPTED


async def test_a_frame_that_met_no_database_is_recorded_when_it_is_sent_again(
    postgres: Any, postgres_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with (
        serving_runs(postgres_url, nats_url, agent_id, timings=QUICK) as service,
        working(nats_url, agent_id) as worker,
    ):
        run = await service.run()
        waiting = asyncio.create_task(service.settled(run))
        given = await worker.take()
        await worker.report(given, STARTED)
        postgres.stop()
        try:
            with pytest.raises(DeadlineExceeded):
                await worker.report(given, end("done"), patience_s=3 * QUICK.lease_s)
            assert await worker.claim() == ()
            with pytest.raises(DatabaseUnavailable):
                await service.run()
        finally:
            postgres.start()

        assert (await worker.report(given, end("done"))).seq == 2
        assert (await waiting).content == "done"
        assert [event.seq for event in await service.log(run)] == [1, 2]
