"""Runs of an instance over a real nats-server, with an API that answers badly, late, or not at all."""

import asyncio
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from opmas.agent import Agent, RunContext
from opmas.agent.config import ConfigSource
from opmas.agent.desk import Desk, Entry
from opmas.agent.environment import Environment
from opmas.agent.instance import Instance
from opmas.agent.runs import held, outbox, worker
from opmas.bus import Bus, Msg
from opmas.wire import subjects
from opmas.wire.errors import DatabaseUnavailable
from opmas.wire.messages import failure
from opmas.wire.runs import Assignment, EventKind, Frame, FrameReply, RunEvent, RunInput, RunLimits, RunStatus
from tests.integration.bus.conftest import Server

_ids = (f"held-{number}" for number in itertools.count())


class Hearing(Desk):
    """A desk that remembers what it heard, and lets tests come between."""

    def __init__(self, agent_id: str, bus: Bus, lease_s: float = 30.0) -> None:
        super().__init__(agent_id, bus, lease_s=lease_s)
        self.claims = 0
        self.frames: list[Frame] = []
        self.bytes: list[int] = []
        self.errors = 0
        self.before_claim: Callable[[], None] = lambda: None
        self.claims_to_lose = 0
        self.answer: Callable[[Msg, FrameReply], FrameReply | None] = lambda _, reply: reply

    async def take_claim(self, msg: Msg) -> None:
        self.claims += 1
        self.before_claim()
        lost = self.claims_to_lose > 0
        self.claims_to_lose -= lost
        await super().take_claim(replace(msg, reply="") if lost else msg)

    async def take_frame(self, msg: Msg) -> None:
        self.frames.append(Frame.model_validate_json(msg.data))
        self.bytes.append(len(msg.data))
        if self.errors:
            self.errors -= 1
            await self._bus.respond(msg, failure("frame", None, DatabaseUnavailable("not now").body()))
            return
        reply = self.answer(msg, await self.record(msg))
        if reply is not None:
            await self._bus.respond(msg, reply)


class Stage:
    """An instance of `agent`, and the desk it works for."""

    def __init__(self, instance: Instance, desk: Hearing) -> None:
        self.instance, self.desk = instance, desk

    def chunks(self, run_id: str) -> list[str]:
        """What was said, as it is on record."""
        return [event.content for event in self.desk.runs[run_id].events if event.kind is EventKind.CHUNK]


@asynccontextmanager
async def stage(agent: Agent, url: str, *, lease_s: float = 30.0, max_runs: int = 8) -> AsyncIterator[Stage]:
    agent_id = next(_ids)
    async with (
        asyncio.timeout(20),
        await Bus.connect(url, name="api") as api,
        await Bus.connect(url, name="instance") as bus,
        asyncio.TaskGroup() as tasks,
    ):
        desk = Hearing(agent_id, api, lease_s)
        await desk.open(tasks)
        environment = Environment(agent_id, instance_id=f"{agent_id}-0", max_runs=max_runs)
        instance = Instance(agent, environment, ConfigSource())
        await instance.start(bus, tasks)
        yield Stage(instance, desk)
        await instance.drain()
        await instance.abandon()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an answer for lost after a moment instead of seconds."""
    monkeypatch.setattr(outbox, "_ANSWER_S", 0.1)
    monkeypatch.setattr(held, "_PATIENCE_S", 0.1)


def counting(count: int) -> Agent:
    agent = Agent()

    @agent.run
    async def count_up(ctx: RunContext) -> None:
        for number in range(count):
            await ctx.send(f"{number} ")
            await asyncio.sleep(0.005)

    return agent


def waiting() -> tuple[Agent, asyncio.Event, list[str]]:
    agent, release, ended = Agent(), asyncio.Event(), list[str]()

    @agent.run
    async def wait(ctx: RunContext) -> str:
        await ctx.send("waiting")
        try:
            await release.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "waiting, done"

    return agent, release, ended


@pytest.mark.usefixtures("impatient")
async def test_lost_answers_leave_no_gap_and_no_duplicate(nats_url: str) -> None:
    async with stage(counting(30), nats_url) as on:
        heard = itertools.count()
        on.desk.answer = lambda _, reply: None if next(heard) % 3 == 0 else reply
        result = await on.desk.settled(await on.desk.accept("count"))

    assert result.content == "".join(f"{number} " for number in range(30))
    assert result.status is RunStatus.COMPLETED


async def test_nats_killed_in_the_middle_costs_a_run_nothing(free_port: Callable[[], int], tmp_path: Path) -> None:
    server = Server(free_port(), tmp_path)
    await server.start()
    try:
        async with stage(counting(60), server.url) as on:
            run_id = await on.desk.accept("count")
            await on.desk.reported(run_id, 10)
            await server.kill()
            await asyncio.sleep(0.1)  # some of it is said meanwhile
            await server.start()
            result = await on.desk.settled(run_id)

        assert result.content == "".join(f"{number} " for number in range(60))
    finally:
        await server.kill()


async def test_an_api_that_was_away_gets_what_was_said_meanwhile(nats_url: str) -> None:
    async with stage(counting(20), nats_url) as on, asyncio.TaskGroup() as tasks:
        run_id = await on.desk.accept("count")
        await on.desk.reported(run_id, 5)
        await on.desk.close()
        await asyncio.sleep(0.15)  # for the handler to end meanwhile
        assert on.desk.runs[run_id].status is RunStatus.RUNNING
        await on.desk.open(tasks)
        result = await on.desk.settled(run_id)

    assert result.content == "".join(f"{number} " for number in range(20))


async def test_an_error_in_place_of_an_answer_is_no_answer(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with stage(counting(5), nats_url) as on:
        on.desk.errors = 3
        with caplog.at_level(logging.CRITICAL):
            result = await on.desk.settled(await on.desk.accept("count"))

    assert result.content == "0 1 2 3 4 "


async def test_a_fenced_run_is_given_up_and_makes_room(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    agent, release, ended = waiting()
    async with stage(agent, nats_url, lease_s=0.3) as on:
        run_id = await on.desk.accept("wait")
        await on.desk.reported(run_id, 2)
        before = len(on.desk.runs[run_id].events)
        with caplog.at_level(logging.CRITICAL):
            on.desk.runs[run_id].assign()  # to somebody else
            await until(lambda: on.instance.runs.in_flight == 0)

        assert ended == ["cancelled"]
        assert len(on.desk.runs[run_id].events) == before
        release.set()
        assert (await on.desk.settled(await on.desk.accept("wait"))).status is RunStatus.COMPLETED


async def test_a_run_whose_record_went_back_is_given_up(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    agent, _, ended = waiting()
    async with stage(agent, nats_url, lease_s=0.3) as on:
        run_id = await on.desk.accept("wait")
        await on.desk.reported(run_id, 2)
        with caplog.at_level(logging.CRITICAL):
            on.desk.answer = lambda _, reply: FrameReply(seq=0)
            await until(lambda: on.instance.runs.in_flight == 0)

        assert ended == ["cancelled"]


async def test_the_handler_is_called_only_when_its_start_is_on_record(nats_url: str) -> None:
    called = False
    agent = Agent()

    @agent.run
    async def answer(ctx: RunContext) -> str:
        nonlocal called
        called = True
        return "yes"

    async with stage(agent, nats_url) as on:
        on.desk.answer = lambda _, reply: FrameReply(fenced=True)
        run_id = await on.desk.accept("x")
        await until(lambda: on.desk.runs[run_id].events and on.instance.runs.in_flight == 0)

    assert not called


async def test_a_quick_answer_takes_two_frames(nats_url: str) -> None:
    agent = Agent()

    @agent.run
    async def answer(ctx: RunContext) -> str:
        await ctx.send("quick ")
        return "quick answer"

    async with stage(agent, nats_url) as on:
        await on.desk.settled(await on.desk.accept("x"))

    kinds = [[event.kind.value for event in frame.events] for frame in on.desk.frames]
    assert kinds == [["started"], ["chunk", "chunk", "end"]]


async def test_what_an_unheard_answer_gave_is_asked_for_again(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_CLAIM_S", 0.1)
    monkeypatch.setattr(worker, "_AGAIN_S", 0.01)
    async with stage(counting(3), nats_url) as one:
        await until(lambda: one.desk.claims)  # the one at the start
        one.desk.claims_to_lose = 2
        run_id = await one.desk.accept("hello")

        result = await one.desk.settled(run_id)

    assert result.status is RunStatus.COMPLETED
    assert [event.kind for event in result.events].count(EventKind.STARTED) == 1
    assert one.desk.claims == 4


async def test_nudges_in_excess_start_nothing_twice(nats_url: str) -> None:
    agent, release, _ = waiting()
    async with stage(agent, nats_url) as on:
        run_id = await on.desk.accept("wait")
        for _ in range(20):
            await on.desk._bus.publish(subjects.run(on.instance.environment.agent_id), b"")
        await on.desk.reported(run_id, 2)
        release.set()
        result = await on.desk.settled(run_id)

    assert [event.kind for event in result.events].count(EventKind.STARTED) == 1


async def test_fifty_runs_at_once_are_held_eight_at_a_time(nats_url: str) -> None:
    agent = Agent()
    now = most = 0

    @agent.run
    async def answer(ctx: RunContext) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return ctx.message

    async with stage(agent, nats_url) as on:
        runs = [await on.desk.accept(str(number)) for number in range(50)]
        results = [await on.desk.settled(run_id) for run_id in runs]

    assert [result.content for result in results] == [str(number) for number in range(50)]
    assert most == 8


async def test_a_replica_that_stays_full_leaves_word_of_work_to_others(nats_url: str) -> None:
    slow, release, _ = waiting()
    async with stage(slow, nats_url, max_runs=1) as on:
        held = await on.desk.accept("wait")
        await on.desk.reported(held, 2)
        await until(lambda: on.instance.runs._listening is None)
        environment = replace(on.instance.environment, instance_id="the-other")
        async with await Bus.connect(nats_url, name="other") as bus, asyncio.TaskGroup() as tasks:
            other = Instance(counting(1), environment, ConfigSource())
            await other.start(bus, tasks)
            for _ in range(10):
                assert (await on.desk.settled(await on.desk.accept("count"))).content == "0 "
            await other.drain()
            await other.abandon()
        release.set()
        await on.desk.settled(held)
        assert (await on.desk.settled(await on.desk.accept("wait"))).content == "waiting, done"


async def test_a_frames_answer_can_cancel(nats_url: str) -> None:
    agent, _, ended = waiting()
    async with stage(agent, nats_url, lease_s=0.3) as on:
        run_id = await on.desk.accept("wait")
        await on.desk.reported(run_id, 2)
        on.desk.runs[run_id].cancel = True
        result = await on.desk.settled(run_id)

    assert (result.status, result.content, ended) == (RunStatus.CANCELLED, "waiting", ["cancelled"])


async def test_a_silent_run_renews_its_lease(nats_url: str) -> None:
    agent, release, _ = waiting()
    async with stage(agent, nats_url, lease_s=0.15) as on:
        run_id = await on.desk.accept("wait")
        await until(lambda: sum(not frame.events for frame in on.desk.frames) >= 3)
        release.set()
        assert (await on.desk.settled(run_id)).status is RunStatus.COMPLETED


@pytest.mark.usefixtures("impatient")
async def test_a_plain_function_that_does_not_end_is_reported_and_keeps_its_place(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent, release = Agent(), threading.Event()

    @agent.run
    def block(ctx: RunContext) -> str:
        assert release.wait(10)
        return "too late"

    async with stage(agent, nats_url, max_runs=1) as on:
        with caplog.at_level(logging.CRITICAL):
            stuck = await on.desk.settled(await on.desk.accept("x", limits=RunLimits(wall_time_s=0.05)))
        behind = await on.desk.accept("y")
        await asyncio.sleep(0.05)
        assert (on.instance.in_flight, on.desk.runs[behind].claimable) == (1, True)
        assert "takes no more runs" in (await on.instance.check_health()).message
        release.set()
        assert (await on.desk.settled(behind)).content == "too late"
        assert (await on.instance.check_health()).healthy

    assert (stuck.status, stuck.reason) == (RunStatus.FAILED, "time_limit")


async def test_who_sends_more_than_is_taken_has_to_wait(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_ANSWER_S", 0.2)
    agent, sent = Agent(), list[int]()

    @agent.run
    async def flood(ctx: RunContext) -> None:
        for number in range(100):
            await ctx.send("x" * 60_000)
            sent.append(number)

    async with stage(agent, nats_url) as on:
        run_id = await on.desk.accept("flood")
        on.desk.answer = lambda msg, reply: None if b'"first_seq":1,' not in msg.data else reply
        await until(lambda: len(on.desk.frames) > 3)
        stopped_at = len(sent)
        on.desk.answer = lambda _, reply: reply
        result = await on.desk.settled(run_id)

    assert stopped_at < 40
    assert len(result.content) == 6_000_000
    assert max(on.desk.bytes) < 701_000


async def test_a_server_that_takes_small_messages_gets_small_frames(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    agent = Agent()

    @agent.run
    async def talk(ctx: RunContext) -> None:
        for _ in range(20):
            await ctx.send("x" * 30_000)

    server = Server(free_port(), tmp_path)
    server.config.write_text("max_payload: 100000\n")
    await server.start()
    try:
        async with stage(agent, server.url) as on:
            result = await on.desk.settled(await on.desk.accept("talk"))
        assert len(result.content) == 600_000
        assert max(on.desk.bytes) < 100_000
    finally:
        await server.kill()


async def test_a_file_that_is_gone_fails_the_run_by_name(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent()

    @agent.run
    async def read(ctx: RunContext) -> str:
        return f"{ctx.files[0].name}: {len(await ctx.files[0].read())}"

    async with stage(agent, nats_url) as on:
        there = await on.desk.settled(await on.desk.accept("x", files={"big": b"x" * 1_000_000}))
        on.desk.before_claim = on.desk.forget_files
        with caplog.at_level(logging.CRITICAL):
            gone = await on.desk.settled(await on.desk.accept("x", files={"f": b"1"}))

    assert there.content == "big: 1000000"
    assert (gone.status, gone.reason) == (RunStatus.FAILED, "file_not_found")


async def test_an_instance_at_rest_asks_for_nothing(nats_url: str) -> None:
    async with stage(counting(1), nats_url) as on:
        for _ in range(3):
            await on.desk.settled(await on.desk.accept("count"))
        await until(lambda: on.instance.runs.in_flight == 0)
        asked = on.desk.claims
        await asyncio.sleep(0.2)  # of silence

    assert on.desk.claims == asked <= 7  # at the start, and at most twice for each run


def test_the_record_of_the_desk_takes_overlaps_and_refuses_gaps() -> None:
    given = RunInput(message="x", workspace_id="w", session_id="s")
    entry = Entry(Assignment(run_id="r", epoch=1, next_seq=1, lease_s=1, input=given))
    events = tuple(RunEvent(kind=EventKind.CHUNK, content=str(number)) for number in range(4))

    def send(first: int, *chosen: int, epoch: int = 1) -> FrameReply:
        frame = Frame(instance_id="i", epoch=epoch, first_seq=first, events=tuple(events[each] for each in chosen))
        return entry.record(frame)

    assert send(1, 0, 1).seq == 2
    assert send(2, 1, 2).seq == 3
    assert send(1, 0).seq == 3
    assert send(5, 3).seq == 3
    assert send(4, 3, epoch=0).fenced
    assert [event.content for event in entry.events] == ["0", "1", "2"]
