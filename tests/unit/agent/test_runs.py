"""Runs by the harness: what a handler is given, what it may say, and how a run ends."""

import asyncio
import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from opmas.agent import Agent, Decision, RunContext, resume, run
from opmas.agent.handlers import handlers_of
from opmas.agent.runs.context import run_id
from opmas.agent.runs.tool import shown
from opmas.agent.testing import AgentHarness
from opmas.bus import correlation_id
from opmas.wire.errors import InvalidRequest, QueueFull, TakesNoRuns
from opmas.wire.runs import EventKind, RunEvent, RunLimits, RunStatus, ToolCall, Turn

LOREM = "lorem ipsum " * 10_000


class Verdict(BaseModel):
    good: bool
    at: datetime


class Clerk(Agent):
    """Does what the message says."""

    async def start(self) -> None:
        self.release = threading.Event()
        self.begun = asyncio.Event()
        self.cancelled = 0

    @run
    async def answer(self, ctx: RunContext) -> Any:
        return await getattr(self, ctx.message)(ctx)

    async def given(self, ctx: RunContext) -> dict[str, Any]:
        return {
            "params": ctx.params,
            "who": [ctx.workspace_id, ctx.user_id],
            "metadata": ctx.metadata,
            "session": [ctx.session.id, *(turn.content for turn in ctx.session.history)],
            "ids": [ctx.correlation_id == correlation_id(), ctx.run_id == run_id(), ctx.attempt],
            "files": {file.name: [len(await file.read()), file.size] for file in ctx.files},
        }

    async def said_in_part(self, ctx: RunContext) -> str:
        await ctx.send("one ")
        await ctx.send("")
        await ctx.send("two ", {"n": 2})
        return "one two three"

    async def said_apart(self, ctx: RunContext) -> str:
        await ctx.send("Looking. ")
        return "Found."

    async def said_all(self, ctx: RunContext) -> None:
        await ctx.send("all")
        ctx.data["kept"] = 1

    async def model(self, ctx: RunContext) -> Verdict:
        return Verdict(good=True, at=datetime(2026, 1, 1, tzinfo=UTC))

    async def number(self, ctx: RunContext) -> int:
        return 7

    async def long(self, ctx: RunContext) -> str:
        return LOREM + "\udc80"

    async def tools(self, ctx: RunContext) -> str:
        async with ctx.tool("search", {"q": "x"}) as call:
            call.result = {"hits": [1, 2]}
        with suppress(ValueError):
            async with ctx.tool("break"):
                raise ValueError("no")
        ctx.progress(1, 2, "half")
        ctx.usage(model="m", provider="p", input_tokens=3, output_tokens=4, cost=0.5)
        ctx.usage(input_tokens=1, cost=0.25)
        await ctx.emit(RunEvent(kind=EventKind.AGNO, agno="{}"))
        return "done"

    async def crash(self, ctx: RunContext) -> None:
        await ctx.send("so far")
        raise KeyError("nothing \udc80 there")

    async def refuse(self, ctx: RunContext) -> None:
        raise QueueFull("not now")

    async def cancel_itself(self, ctx: RunContext) -> None:
        raise asyncio.CancelledError

    async def end_it(self, ctx: RunContext) -> None:
        await ctx.emit(RunEvent(kind=EventKind.END))

    async def wait(self, ctx: RunContext) -> None:
        self.begun.set()
        await ctx.send("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1

    async def spend(self, ctx: RunContext) -> str:
        ctx.usage(total_tokens=11)
        await asyncio.sleep(0)
        return "never"

    async def call_tools(self, ctx: RunContext) -> str:
        for _ in range(3):
            async with ctx.tool("t"):
                pass
        return "never"

    async def emit_tools(self, ctx: RunContext) -> str:
        for number in range(3):
            await ctx.emit(RunEvent(kind=EventKind.TOOL, tool=ToolCall(id=str(number), name="t")))
        return "never"

    async def ask(self, ctx: RunContext) -> Any:
        await ctx.send("May I? ")
        ctx.usage(model="m", total_tokens=6)
        return ctx.confirm("Pay?", {"amount": 5}, state={"to": ("ann",)}, resume="pay", tool_name="pay", expires_in=9)

    async def ask_nobody(self, ctx: RunContext) -> Any:
        return ctx.confirm("Pay?", resume="nowhere")

    @resume("pay")
    async def pay(self, ctx: RunContext, state: Any, decision: Decision) -> Any:
        if decision.note == "again":
            return ctx.confirm("Really?", resume="pay", state=state)
        ctx.usage(total_tokens=int(decision.note == "dear") * 5)
        return {"paid": decision.arguments if decision.confirmed else None, "to": state["to"], "note": decision.note}


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness(Clerk)


async def test_a_handler_is_given_what_the_caller_sent(harness: AgentHarness) -> None:
    said = Turn(role="user", content="before", time=datetime(2026, 1, 1, tzinfo=UTC))
    async with harness:
        result = await harness.run(
            "given",
            params={"a": [1]},
            user_id="ann",
            workspace_id="acme",
            metadata={"m": 1},
            session=[said],
            session_id="s1",
            correlation_id="c-1",
            files={"big": b"x" * 600_000, "small": b"", "two": b"12"},
        )

    assert result.data == {
        "params": {"a": [1]},
        "who": ["acme", "ann"],
        "metadata": {"m": 1},
        "session": ["s1", "before"],
        "ids": [True, True, 1],
        "files": {"big": [600_000, 600_000], "small": [0, 0], "two": [2, 2]},
    }


@pytest.mark.parametrize(
    ("message", "content", "chunks"),
    [
        ("said_in_part", "one two three", ["one ", "two ", "three"]),
        ("said_apart", "Looking. Found.", ["Looking. ", "Found."]),
        ("said_all", "all", ["all"]),
    ],
)
async def test_the_chunks_joined_are_the_answer(
    harness: AgentHarness, message: str, content: str, chunks: list[str]
) -> None:
    async with harness:
        result = await harness.run(message)

    assert [event.content for event in result.events if event.kind is EventKind.CHUNK] == chunks
    end = result.events[-1].end
    assert end is not None
    assert (result.status, result.content, end.content) == (RunStatus.COMPLETED, content, content)


async def test_structured_data_is_a_dict_a_model_or_kept_in_the_context(harness: AgentHarness) -> None:
    async with harness:
        assert (await harness.run("said_all")).data == {"kept": 1}
        assert (await harness.run("model")).data == {"good": True, "at": "2026-01-01T00:00:00Z"}


async def test_long_text_is_sent_in_pieces_and_what_utf8_cannot_say_is_replaced(harness: AgentHarness) -> None:
    async with harness:
        result = await harness.run("long")

    assert result.content == LOREM + "?"
    assert len(result.events) > 4


async def test_tools_progress_usage_and_raw_events_are_told_in_order(harness: AgentHarness) -> None:
    async with harness:
        result = await harness.run("tools")

    kinds = [event.kind.value for event in result.events]
    assert kinds == ["started", "tool", "tool", "tool", "tool", "progress", "agno", "chunk", "end"]
    called, returned, _, failed = [event.tool for event in result.events if event.tool]
    assert (called.name, called.arguments, called.done) == ("search", {"q": "x"}, False)
    assert (returned.id, returned.done, returned.result) == (called.id, True, '{"hits":[1,2]}')
    assert (failed.error, failed.result) == ("ValueError: no", None)
    usage = result.usage
    assert usage is not None
    assert (usage.model, usage.input_tokens, usage.output_tokens, usage.total_tokens) == ("m", 4, 4, 8)
    assert (usage.cost, usage.tool_calls) == (0.75, 2)


@pytest.mark.parametrize(
    ("message", "reason", "error"),
    [
        ("crash", "failed", "KeyError: 'nothing "),
        ("refuse", "queue_full", "not now"),
        ("number", "invalid_request", "it is of type int"),
        ("ask_nobody", "invalid_request", "no function is marked @resume('nowhere')"),
        ("cancel_itself", "failed", "cancelled itself"),
        ("end_it", "invalid_request", "cannot emit 'end'"),
    ],
)
async def test_an_exception_is_the_end_of_its_run_alone(
    harness: AgentHarness, message: str, reason: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with harness:
        with caplog.at_level(logging.CRITICAL):
            failed = await harness.run(message)
        assert (await harness.run("said_all")).status is RunStatus.COMPLETED

    assert (failed.status, failed.reason) == (RunStatus.FAILED, reason)
    assert error in failed.error


async def test_a_decision_goes_on_with_the_state_that_was_kept(harness: AgentHarness) -> None:
    async with harness:
        waiting = await harness.run("ask")
        assert waiting.status is RunStatus.WAITING_CONFIRMATION
        asked = waiting.confirmation
        assert asked is not None
        assert (asked.message, asked.arguments, asked.tool_name, asked.expires_in_s) == (
            "Pay?",
            {"amount": 5},
            "pay",
            9,
        )
        again = await harness.resume(waiting, confirmed=True, note="again")
        done = await harness.resume(again, confirmed=True, arguments={"amount": 3}, note="less")
        with pytest.raises(InvalidRequest, match="waits for nobody"):
            await harness.resume(done, confirmed=True)
        refused = await harness.resume(await harness.run("ask"), confirmed=False)

    assert asked.state == {"to": ["ann"]}
    assert done.data == {"paid": {"amount": 3}, "to": ["ann"], "note": "less"}
    assert [event.kind.value for event in done.events] == [
        "started", "chunk", "confirmation", "started", "confirmation", "started", "end",
    ]  # fmt: skip
    assert refused.data is not None
    assert refused.data["paid"] is None


async def test_what_was_said_and_used_before_a_decision_counts_after_it(harness: AgentHarness) -> None:
    async with harness:
        waiting = await harness.run("ask", limits=RunLimits(tokens=10))
        cheap = await harness.resume(waiting, confirmed=True)
        waiting = await harness.run("ask", limits=RunLimits(tokens=10))
        dear = await harness.resume(waiting, confirmed=True, note="dear")

    assert cheap.usage is not None
    assert (cheap.usage.model, cheap.usage.total_tokens) == ("m", 6)
    end = cheap.events[-1].end
    assert end is not None
    assert end.content == cheap.content == "May I? "
    assert dear.reason == "token_limit"


async def test_a_cancelled_run_ends_as_cancelled_with_what_was_said(harness: AgentHarness) -> None:
    async with harness:
        running = await harness.begin("wait")
        await harness.reported(running, 2)
        result = await harness.cancel(running)

        assert await harness.command("cancel", {"run_id": "another"}) == {"run_id": "another", "cancelled": False}
        with pytest.raises(InvalidRequest, match="run_id"):
            await harness.command("cancel")

    assert (result.status, result.content, result.reason) == (RunStatus.CANCELLED, "waiting", "cancelled")
    assert isinstance(harness.agent, Clerk)
    assert harness.agent.cancelled == 1


@pytest.mark.parametrize(
    ("message", "limits", "reason"),
    [
        ("wait", RunLimits(wall_time_s=0.05), "time_limit"),
        ("spend", RunLimits(tokens=10), "token_limit"),
        ("call_tools", RunLimits(tool_calls=2), "tool_limit"),
        ("emit_tools", RunLimits(tool_calls=2), "tool_limit"),
    ],
)
async def test_limits_stop_a_run(harness: AgentHarness, message: str, limits: RunLimits, reason: str) -> None:
    async with harness:
        result = await harness.run(message, limits=limits)

    assert (result.status, result.reason) == (RunStatus.FAILED, reason)
    assert "limit" in result.error
    assert sum(event.tool is not None and not event.tool.done for event in result.events) <= 2


async def test_a_plain_function_runs_in_a_thread_and_speaks_from_there() -> None:
    agent = Agent()

    @agent.run
    def answer(ctx: RunContext) -> str:
        assert threading.current_thread() is not threading.main_thread()
        assert (ctx.run_id, ctx.correlation_id) == (run_id(), correlation_id())
        ctx.progress(1)
        ctx.send_from_thread("from ")
        with ctx.tool("t") as call:
            call.result = ctx.files[0].read_from_thread().decode()
        ctx.usage(total_tokens=1)
        return "from a thread"

    async with AgentHarness(agent) as harness:
        result = await harness.run("x", correlation_id="c-1", files={"f": b"content"})

    assert [event.kind.value for event in result.events] == [
        "started", "progress", "chunk", "tool", "tool", "chunk", "end",
    ]  # fmt: skip
    assert (result.content, result.error) == ("from a thread", "")
    assert result.events[4].tool is not None
    assert result.events[4].tool.result == "content"


async def test_an_agent_without_a_handler_takes_no_runs() -> None:
    async with AgentHarness(Agent) as harness:
        with pytest.raises(TakesNoRuns):
            await harness.begin("hello")


async def test_runs_are_held_side_by_side() -> None:
    agent = Agent()
    together = asyncio.Barrier(8)  # as many as an instance takes by default

    @agent.run
    async def answer(ctx: RunContext) -> str:
        await together.wait()
        return ctx.message

    async with AgentHarness(agent) as harness:
        runs = [await harness.begin(str(number)) for number in range(16)]
        results = [await harness.settled(each) for each in runs]

    assert [result.content for result in results] == [str(number) for number in range(16)]


def test_a_handler_with_wrong_arguments_is_refused() -> None:
    agent = Agent()

    @agent.resume("pay")
    async def pay(ctx: RunContext) -> None: ...

    with pytest.raises(InvalidRequest, match="pay") as refused:
        handlers_of(agent)

    assert "the context of the run, the state, the decision" in refused.value.hint


def test_any_result_of_a_tool_can_be_shown() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert shown("caf\udce9") == "caf?"
    assert shown({"file": "caf\udce9"}) == r"{'file': 'caf\udce9'}"
    assert shown(endless) == "[[...]]"
    assert shown({"hits": (1, 2)}) == '{"hits":[1,2]}'
