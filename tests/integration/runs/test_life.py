"""A run from its acceptance to its end: what callers, instances and the record make of each other."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from management_api.runs import Timings
from opmas.agent import Agent, RunContext
from opmas.agent.config import ConfigSource
from opmas.agent.environment import Environment
from opmas.agent.instance import Instance
from opmas.bus import Bus
from opmas.bus.client import SafeClient
from opmas.wire import subjects
from opmas.wire.errors import (
    AgentNotFound,
    AgentNotRunning,
    ConfirmationDecided,
    DatabaseUnavailable,
    DeadlineExceeded,
    FileNotFound,
    IdempotencyConflict,
    ManagerUnavailable,
    QueueFull,
    RunNotFound,
    TakesNoRuns,
    TooLarge,
)
from opmas.wire.invocation import DecisionRequest
from opmas.wire.runs import Claim, Claimed, FrameReply, RunSpec, RunStatus, SessionRuns
from opmas.wire.status import Desired
from opmas.wire.views import Access
from tests.integration.api.peer import Peer, agent, serving
from tests.integration.runs.service import Service, caller, serving_runs, told
from tests.integration.runs.worker import STARTED, Worker, ask, chunk, end, working

YES = DecisionRequest(confirmed=True, note="fine", arguments={"amount": 4})


async def test_a_run_is_given_to_an_instance_and_its_caller_hears_the_end(service: Service, worker: Worker) -> None:
    run = await service.run("hello", params={"tone": "kind"}, userId="ann")
    async with asyncio.timeout(10):
        await worker.nudged.wait()
    waiting = asyncio.create_task(service.settled(run))

    given = await worker.take()
    await worker.report(given, STARTED)
    await worker.report(given, chunk("hel"), chunk("lo"))
    await worker.report(given, end("hello"))

    ended = await waiting
    assert (ended.status, ended.content, ended.user_id) == (RunStatus.COMPLETED, "hello", "ann")
    assert given.input.params == {"tone": "kind"}
    assert [told(event) for event in await service.log(run)] == ["", "hel", "lo", ""]
    assert await service.read(run) == ended


async def test_a_nudge_that_was_lost_is_repeated_while_there_is_work(service: Service, worker: Worker) -> None:
    run = await service.run()
    await worker.nudged.wait()
    worker.nudged.clear()  # as if it had never come

    async with asyncio.timeout(10):
        await worker.nudged.wait()

    await worker.finish()
    assert (await service.settled(run)).status is RunStatus.COMPLETED


async def test_a_known_agent_is_asked_while_the_manager_is_away(sqlite_url: str, nats_url: str, agent_id: str) -> None:
    async with serving_runs(sqlite_url, nats_url, agent_id) as service:
        with pytest.raises(ManagerUnavailable):
            await service.run()
        async with serving(nats_url) as peer:
            peer.known = {agent_id: agent(agent_id)}
            await service.run()
        service.runs._directory._fresh_s = 0  # as if a second had passed

        assert (await service.run()).status is RunStatus.PENDING


async def test_who_cannot_be_asked_is_told_why(service: Service, peer: Peer) -> None:
    view = service.agent_id, peer.known[service.agent_id]
    service.runs._directory._fresh_s = 0

    async def refused(kind: type[Exception], **changes: object) -> None:
        peer.known[view[0]] = view[1].model_copy(update=changes)
        with pytest.raises(kind):
            await service.run()

    await refused(AgentNotRunning, desired=Desired.STOPPED)
    await refused(AgentNotRunning, enabled=False)
    await refused(AgentNotFound, access=Access(workspaces=("b",)))
    deaf = view[1].instances[0].model_copy(update={"takes_runs": False})
    await refused(TakesNoRuns, instances=(deaf,))
    peer.known.clear()
    with pytest.raises(AgentNotFound):
        await service.run()


async def test_what_this_api_has_commanded_counts_at_once(service: Service, peer: Peer) -> None:
    await service.run()

    peer.known[service.agent_id] = peer.known[service.agent_id].model_copy(update={"desired": Desired.STOPPED})
    await service.runs._directory._fleet.command("stop", service.agent_id, {})

    with pytest.raises(AgentNotRunning):
        await service.run()


async def test_the_same_request_is_the_same_run(service: Service) -> None:
    first = await service.invoke("hello", key="k")
    again = await service.invoke("hello", key="k")

    assert first.created
    assert not again.created
    assert again.run.id == first.run.id
    with pytest.raises(IdempotencyConflict):
        await service.invoke("good bye", key="k")


async def test_what_is_too_much_is_refused(service: Service, peer: Peer) -> None:
    peer.known[service.agent_id] = agent(service.agent_id).model_copy(update={"runs": RunSpec(queue=1)})
    await service.run()

    with pytest.raises(QueueFull):
        await service.run()
    with pytest.raises(TooLarge):
        await service.run("x" * 700_000)


async def test_cancelling_ends_what_nobody_has_at_once(service: Service, worker: Worker) -> None:
    pending, waiting = await service.run("one"), await service.run("two")
    log = asyncio.create_task(service.log(pending))

    ended = await service.runs.cancel(caller(), service.agent_id, pending.id)
    given = await worker.take()
    await worker.report(given, STARTED, ask())
    asked = await service.settled(waiting)
    cancelled = await service.runs.cancel(caller(), service.agent_id, waiting.id)

    assert given.run_id == waiting.id
    assert asked.status is RunStatus.WAITING_CONFIRMATION
    assert ended.status is cancelled.status is RunStatus.CANCELLED
    assert len(await log) == 1
    with pytest.raises(ConfirmationDecided):
        await service.runs.decide(caller(), service.agent_id, waiting.id, "sure", YES)


async def test_cancelling_a_run_under_way_tells_its_instance_twice(service: Service, worker: Worker) -> None:
    run = await service.run()
    given = await worker.take()
    await worker.report(given, STARTED)

    asked = await service.runs.cancel(caller(), service.agent_id, run.id)
    async with asyncio.timeout(10):
        told_to_stop = await worker.told_to_stop.get()
    reply = await worker.report(given)
    await worker.report(given, end(status=RunStatus.CANCELLED))

    assert asked.status is RunStatus.RUNNING
    assert (told_to_stop, reply.cancel) == (run.id, True)
    assert (await service.settled(run)).status is RunStatus.CANCELLED
    assert (await service.runs.cancel(caller(), service.agent_id, run.id)).status is RunStatus.CANCELLED


async def test_a_confirmation_is_decided_once_and_the_run_goes_on(service: Service, worker: Worker) -> None:
    run = await service.run()
    log = asyncio.create_task(service.log(run))
    given = await worker.take()
    await worker.report(given, STARTED, ask())
    waiting = await service.settled(run)
    worker.nudged.clear()

    decided = await service.runs.decide(caller(), service.agent_id, run.id, "sure", YES)
    async with asyncio.timeout(10):
        await worker.nudged.wait()
    again = await worker.take()
    ending = asyncio.create_task(service.settled(decided))
    await worker.report(again, STARTED, end("paid"))

    assert waiting.status is RunStatus.WAITING_CONFIRMATION
    assert again.resume is not None
    assert again.resume.decision.arguments == {"amount": 4}
    assert (await ending).content == "paid"
    assert [event.seq for event in await log] == [1, 2, 3, 4]
    with pytest.raises(ConfirmationDecided):
        await service.runs.decide(caller(), service.agent_id, run.id, "sure", YES)


async def test_a_run_exists_only_for_those_who_may_see_it(service: Service) -> None:
    ann = caller("ann", person=True)
    run = (await service.invoke(by=ann, userId="bob")).run
    assert run.user_id == "ann"
    for stranger in (caller("bob", person=True), caller(workspace="b")):
        with pytest.raises(RunNotFound):
            await service.runs.get(stranger, service.agent_id, run.id)
        with pytest.raises(RunNotFound):
            await service.runs.cancel(stranger, service.agent_id, run.id)
        with pytest.raises(RunNotFound):
            await service.runs.decide(stranger, service.agent_id, run.id, "sure", YES)
    with pytest.raises(RunNotFound):
        await service.runs.get(ann, "another", run.id)

    for friend in (ann, caller("boss", person=True, role="operator"), caller("key:app")):
        assert (await service.runs.find(friend, run.id)).id == run.id


async def test_a_later_run_interrupts_its_session_where_the_agent_says_so(
    service: Service, worker: Worker, peer: Peer
) -> None:
    spec = RunSpec(session_runs=SessionRuns.INTERRUPT)
    peer.known[service.agent_id] = agent(service.agent_id).model_copy(update={"runs": spec})
    service.runs._directory._fresh_s = 0
    held = await service.run("one", sessionId="s")
    await worker.report(await worker.take(), STARTED)
    queued = await service.run("two", sessionId="s")
    log = asyncio.create_task(service.log(queued))

    await service.run("three", sessionId="s")

    async with asyncio.timeout(10):
        # The second run has told it to stop, and the third again or not: it is the same word.
        assert await worker.told_to_stop.get() == held.id
    assert len(await log) == 1
    assert (await service.read(queued)).status is RunStatus.CANCELLED


async def test_the_end_of_a_run_tells_of_the_next_one_of_its_session(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    async with (
        serving_runs(sqlite_url, nats_url, agent_id, timings=Timings(sweep_s=60)) as service,
        working(nats_url, agent_id) as worker,
    ):
        await service.run(sessionId="s")
        second = await service.run(sessionId="s")
        given = await worker.take()
        assert await worker.claim(room=5) == ()
        worker.nudged.clear()

        await worker.report(given, STARTED, end())

        async with asyncio.timeout(10):
            await worker.nudged.wait()
        assert [one.run_id for one in await worker.claim(room=5)] == [second.id]


async def test_an_instance_asks_again_for_what_was_too_much_for_one_answer(
    sqlite_url: str, nats_url: str, agent_id: str, peer: Peer
) -> None:
    author = Agent()

    @author.run
    async def measure(ctx: RunContext) -> str:
        return str(len(ctx.message))

    async with serving_runs(sqlite_url, nats_url, agent_id, timings=Timings(sweep_s=60)) as service:
        runs = [await service.run("m" * 500_000) for _ in range(3)]
        instance = Instance(author, Environment(agent_id, instance_id=f"{agent_id}-0"), ConfigSource())
        async with await Bus.connect(nats_url, name="instance") as bus, asyncio.TaskGroup() as tasks:
            await instance.start(bus, tasks)
            ended = [await service.settled(run) for run in runs]
            await instance.drain()
            await instance.abandon()

    assert [run.content for run in ended] == ["500000"] * 3


async def test_an_agent_that_was_deleted_takes_its_pending_runs_with_it(
    sqlite_url: str, nats_url: str, agent_id: str
) -> None:
    quick = Timings(sweep_s=0.05, orphans_s=0.1)
    async with serving_runs(sqlite_url, nats_url, agent_id, timings=quick) as service:
        async with serving(nats_url) as peer:
            peer.known = {agent_id: agent(agent_id)}
            run = await service.run()
        assert (await service.runs.settled(run, 0.5)).status is RunStatus.PENDING  # nobody says that it is deleted

        async with serving(nats_url) as peer:
            peer.known = {}
            ended = await service.settled(run)

    assert (ended.status, ended.reason) == (RunStatus.FAILED, "agent_deleted")


async def test_what_cannot_be_understood_is_answered(service: Service, worker: Worker) -> None:
    run = await service.run()

    claimed = await worker.bus.request(subjects.claim(service.agent_id), b"{", 10)
    frame = await worker.bus.request(subjects.frame(service.agent_id, run.id), b'{"epoch": "x"}', 10)
    named = await worker.bus.request(subjects.claim(service.agent_id), b'{"instance_id": "another-0"}', 10)
    foreign = await worker.bus.request(
        subjects.frame("another", run.id), b'{"instance_id":"x-0","epoch":1,"first_seq":1}', 10
    )
    piece = await worker.bus.request(subjects.file(service.agent_id), b"[]", 10)

    assert Claimed.model_validate_json(claimed.data).assignments == ()
    assert Claimed.model_validate_json(named.data).assignments == ()
    assert "cannot understand the frame" in FrameReply.model_validate_json(frame.data).reason
    assert FrameReply.model_validate_json(foreign.data).fenced
    assert b"invalid_request" in piece.data
    assert (await worker.take()).run_id == run.id


async def test_an_answer_goes_to_inboxes_and_nowhere_else(service: Service, nats_url: str) -> None:
    claim = Claim(instance_id=f"{service.agent_id}-0").encode()
    client = SafeClient()
    await client.connect(nats_url)
    async with asyncio.timeout(10):
        elsewhere = await client.subscribe("agent.other.command")
        await client.publish(subjects.claim(service.agent_id), claim, reply="agent.other.command")

        await client.request(subjects.claim(service.agent_id), claim, 5)

        with pytest.raises(TimeoutError):
            await elsewhere.next_msg(0.2)
        await client.close()


async def test_while_the_database_is_away_claims_get_nothing_and_frames_no_answer(
    sqlite_url: str, nats_url: str, agent_id: str, worker: Worker
) -> None:
    async with serving(nats_url) as peer, serving_runs(sqlite_url, nats_url, agent_id, migrated=False) as service:
        peer.known = {agent_id: agent(agent_id)}

        assert await worker.claim() == ()
        with pytest.raises(DeadlineExceeded):
            await worker.bus.request(
                subjects.frame(agent_id, "r1"), b'{"instance_id":"x-0","epoch":1,"first_seq":1}', 1
            )
        with pytest.raises(DatabaseUnavailable):
            await service.run()


async def test_a_file_is_for_the_instance_that_has_its_run(service: Service, worker: Worker) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"pie"

    file = await service.runs.ledger.add_file(
        workspace="a", user_id="ann", name="a.txt", type="text/plain", content=content(), max_bytes=100
    )
    with pytest.raises(FileNotFound):
        await service.run(files=["f2"])
    with pytest.raises(FileNotFound):
        await service.invoke(by=caller(workspace="b"), files=[file.id])

    run = await service.run(files=[file.id])
    given = await worker.take()

    assert given.run_id == run.id
    assert [one.name for one in given.input.files] == ["a.txt"]
    assert b'"cGll"' in (await worker.file(given, file.id)).data
    await worker.report(given, STARTED, end())
    assert b"file_not_found" in (await worker.file(given, file.id)).data
