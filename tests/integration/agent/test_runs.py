"""Runs of an instance as a process: started, drained, interrupted, logged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from opmas.agent.desk import Desk
from opmas.wire.runs import RunStatus
from opmas.wire.status import AgentStatus

AGENT = """
    import asyncio, time
    from opmas.agent import Agent, run

    class Tested(Agent):
        @run
        async def answer(self, ctx):
            self.log.info("asked for %s", ctx.message)
            await ctx.send("begun")
            if ctx.message == "stubborn":
                while True:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        pass
            if ctx.message == "long":
                await asyncio.sleep(60)
            if ctx.message == "thread":
                await asyncio.to_thread(time.sleep, 60)
            await asyncio.sleep(0.2)
            return "begun, done"
"""


@asynccontextmanager
async def desk_of(agent: Any) -> AsyncIterator[Desk]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        desk = Desk(agent.id, agent.bus)
        await desk.open(tasks)
        yield desk


async def test_at_sigterm_short_runs_end_and_long_ones_are_interrupted_on_record(start: Any) -> None:
    agent = await start(AGENT, OPMAS_STOP_GRACE_S="2")
    assert (await agent.beat()).takes_runs is True
    async with desk_of(agent) as desk:
        runs = [await desk.accept(message) for message in ("short", "long", "thread")]
        for run_id in runs:
            await desk.reported(run_id, 2)
        await agent.beat(lambda beat: beat.in_flight == 3)

        agent.process.terminate()
        short, *others = [await desk.settled(run_id) for run_id in runs]
        assert await agent.ended() == 0

    assert (short.status, short.content) == (RunStatus.COMPLETED, "begun, done")
    for run in others:
        assert (run.status, run.reason, run.content) == (RunStatus.INTERRUPTED, "stopping", "begun")
    await agent.beat(lambda beat: beat.status is AgentStatus.STOPPED)


async def test_a_handler_that_does_not_heed_the_end_cannot_hide_it(start: Any) -> None:
    agent = await start(AGENT, OPMAS_STOP_GRACE_S="3", OPMAS_MAX_RUNS="1")
    await agent.beat()
    async with desk_of(agent) as desk:
        run_id = await desk.accept("stubborn")
        await desk.reported(run_id, 2)
        behind = await desk.accept("short")

        agent.process.terminate()
        result = await desk.settled(run_id)

    assert (result.status, result.reason) == (RunStatus.INTERRUPTED, "stopping")
    assert desk.runs[behind].claimable  # left to another instance


async def test_log_lines_of_a_run_bear_its_ids(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()
    async with desk_of(agent) as desk:
        run_id = await desk.accept("short", correlation_id="c-42")
        await desk.settled(run_id)
        agent.process.terminate()
        await agent.ended()

    assert f"[c-42 run {run_id}]: asked for short".encode() in agent.errors
