"""Instances that fall silent, and those that only seem to."""

from management_api.runs import Timings
from opmas.wire.runs import OnLost, RunSpec, RunStatus
from tests.integration.api.peer import Peer, agent
from tests.integration.runs.service import serving_runs
from tests.integration.runs.worker import STARTED, end, working

QUICK = Timings(lease_s=0.4, sweep_s=0.05)


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
