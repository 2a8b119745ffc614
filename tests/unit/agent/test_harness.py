"""An agent driven by the harness: everything an author can write, without a server."""

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from opmas.agent import Agent, Message, command, on, query
from opmas.agent.testing import AgentHarness
from opmas.wire.errors import AgentFailed, DeadlineExceeded, InvalidRequest, PermissionDenied
from opmas.wire.messages import Response, failure

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"threshold": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}


class Total(BaseModel):
    lines: int


class Sentinel(Agent):
    """One of everything."""

    def __init__(self) -> None:  # without super().__init__(): authors forget
        self.hooks: list[str] = []
        self.seen: list[str] = []

    async def start(self) -> None:
        self.hooks.append("start")

    async def stop(self) -> None:
        self.hooks.append("stop")

    async def health_check(self) -> dict[str, JsonValue]:
        return {"healthy": self.config.get("threshold") != 13, "message": "unlucky"}

    async def collect_metrics(self) -> dict[str, float]:
        return {"seen": len(self.seen), "broken": float("nan")}

    async def on_config_changed(self, old: dict[str, JsonValue]) -> None:
        self.hooks.append(f"changed from {old.get('threshold')}")
        if self.config.get("threshold") == 99:
            raise ValueError("too many")

    @on("logs.>")
    async def line(self, message: Message) -> None:
        self.seen.append(message.text)
        self.metrics["lines"] += 1
        if message.text == "bad":
            raise ValueError("boom")
        await self.publish("findings.line", {"subject": message.subject, "text": message.text})

    @on("ask.json")
    async def ask(self, message: Message) -> None:
        await message.reply({"got": message.json()})

    @on("plain.thread")
    def in_thread(self, message: Message) -> None:
        self.publish_from_thread("findings.thread", str(threading.current_thread() is threading.main_thread()))

    @command("reindex")
    async def reindex(self, params: dict[str, Any]) -> dict[str, Any]:
        self.progress(1, 2, "half")
        return {"done": params}

    @command("crash")
    async def crash(self, params: dict[str, Any]) -> None:
        raise KeyError("nothing")

    @command("refuse")
    def refuse(self, params: dict[str, Any]) -> None:
        raise PermissionDenied("not you", "ask someone")

    @query("top")
    async def top(self, params: dict[str, Any]) -> Total:
        return Total(lines=len(self.seen))

    @query("odd")
    async def odd(self, params: dict[str, Any]) -> object:
        return object()


async def test_a_message_reaches_its_handler_and_what_it_publishes_is_seen() -> None:
    async with AgentHarness(Sentinel) as harness:
        await harness.send("logs.sshd", b"hello")

        (finding,) = harness.published("findings.*")
        assert finding.json() == {"subject": "logs.sshd", "text": "hello"}
        assert harness.agent.metrics["lines"] == 1


async def test_hooks_are_called_around_the_work() -> None:
    async with AgentHarness(Sentinel) as harness:
        agent = harness.agent
        assert isinstance(agent, Sentinel)
        assert agent.hooks == ["start"]

    assert agent.hooks == ["start", "stop"]


async def test_a_plain_function_runs_in_a_thread_and_may_publish_from_there() -> None:
    async with AgentHarness(Sentinel) as harness:
        await harness.send("plain.thread", b"")

        assert [each.text for each in harness.published("findings.thread")] == ["False"]


async def test_what_a_handler_raises_is_raised_by_send_and_the_agent_lives_on() -> None:
    async with AgentHarness(Sentinel) as harness:
        with pytest.raises(ValueError, match="boom"):
            await harness.send("logs.x", b"bad")
        await harness.send("logs.x", b"good")

        assert [each.json() for each in harness.published("findings.line")] == [{"subject": "logs.x", "text": "good"}]
        assert (await harness.metrics())["errors_total"] == 1


async def test_a_request_is_answered_by_reply() -> None:
    async with AgentHarness(Sentinel) as harness:
        assert (await harness.ask("ask.json", {"a": [1]})).json() == {"got": {"a": [1]}}


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000])
async def test_json_that_is_none_is_a_clear_error_and_the_asker_is_told(body: bytes) -> None:
    async with AgentHarness(Sentinel) as harness:
        answer = await harness.ask("ask.json", body)
        with pytest.raises(InvalidRequest, match=r"ask\.json is not JSON"):
            await harness.settle()

    assert b'"code":"invalid_request"' in answer.data


async def test_commands_and_queries_return_their_result() -> None:
    async with AgentHarness(Sentinel) as harness:
        await harness.send("logs.x", b"one")

        assert await harness.command("reindex", {"all": True}) == {"done": {"all": True}}
        assert await harness.query("top") == {"lines": 1}


async def test_what_a_command_raises_is_raised_to_the_test() -> None:
    async with AgentHarness(Sentinel) as harness:
        with pytest.raises(KeyError, match="nothing"):
            await harness.command("crash")
        with pytest.raises(PermissionDenied, match="not you"):
            await harness.command("refuse")


async def test_a_response_that_somebody_sent_our_way_is_no_command() -> None:
    misled = failure("drain", "agent", InvalidRequest("there is no query 'drain'").body())

    async with AgentHarness(Sentinel) as harness:
        answer = await harness.ask("agent.agent.command", misled.model_dump(mode="json"))

    assert (
        Response.model_validate(answer.json()).error
        == InvalidRequest("cannot obey a response: it is no command").body()
    )


async def test_an_unknown_command_names_the_known_ones() -> None:
    async with AgentHarness(Sentinel) as harness:
        with pytest.raises(InvalidRequest, match="no command 'reindx'") as refused:
            await harness.command("reindx")

    assert "Did you mean 'reindex'?" in refused.value.hint


async def test_a_result_that_is_not_json_is_an_error() -> None:
    async with AgentHarness(Sentinel) as harness:
        with pytest.raises(AgentFailed, match="returned: object is not JSON"):
            await harness.query("odd")


async def test_config_is_checked_at_start_and_at_every_change() -> None:
    with pytest.raises(InvalidRequest, match=r"config\.threshold"):
        async with AgentHarness(Sentinel, config={"threshold": 0}, schema=SCHEMA):
            pass

    async with AgentHarness(Sentinel, config={"threshold": 5}, schema=SCHEMA) as harness:
        with pytest.raises(InvalidRequest, match=r"config\.threshold"):
            await harness.reload({"threshold": "many"})
        assert harness.agent.config == {"threshold": 5}

        await harness.reload({"threshold": 6})
        assert harness.agent.config == {"threshold": 6}

        with pytest.raises(ValueError, match="too many"):
            await harness.reload({"threshold": 99})
        assert harness.agent.config == {"threshold": 6}
        assert isinstance(harness.agent, Sentinel)
        assert harness.agent.hooks == ["start", "changed from 5", "changed from 6"]


async def test_health_and_metrics_say_what_the_hooks_say() -> None:
    async with AgentHarness(Sentinel, config={"threshold": 13}) as harness:
        await harness.send("logs.x", b"one")
        health = await harness.health()

        assert (health.healthy, health.message) == (False, "unlucky")
        assert await harness.metrics() == {"messages_total": 1, "errors_total": 0, "lines": 1, "seen": 1}
        assert await harness.query("metrics") == await harness.metrics()


async def test_info_describes_the_agent() -> None:
    async with AgentHarness(Sentinel, agent_id="my-sentinel") as harness:
        info = await harness.query("info")

    assert isinstance(info, dict)
    assert info["agent_id"] == "my-sentinel"
    assert info["instance_id"] == "my-sentinel-0"
    assert info["subjects"] == ["logs.>", "ask.json", "plain.thread"]
    assert info["commands"] == ["cancel", "crash", "drain", "log_level", "refuse", "reindex", "reload"]


async def test_an_agent_of_functions_works_like_a_class() -> None:
    agent = Agent()
    started = []

    @agent.hook
    async def start() -> None:
        started.append(agent.config)

    @agent.on("logs.a")
    @agent.on("logs.b")
    async def line(message: Message) -> None:
        await agent.publish("findings.x", message.subject)

    @agent.command("double")
    def double(params: dict[str, Any]) -> int:
        return int(params["n"]) * 2

    async with AgentHarness(agent, config={"a": 1}) as harness:
        await harness.send("logs.a", b"")
        await harness.send("logs.b", b"")

        assert [each.text for each in harness.published("findings.x")] == ["logs.a", "logs.b"]
        assert await harness.command("double", {"n": 4}) == 8
        assert started == [{"a": 1}]


async def test_background_work_runs_beside_and_its_failure_is_told() -> None:
    agent = Agent()
    go = asyncio.Event()

    async def tick() -> None:
        await agent.publish("events.tick", b"")
        await go.wait()
        raise RuntimeError("ticked off")

    @agent.hook
    async def start() -> None:
        agent.spawn(tick(), "tick")

    async with AgentHarness(agent) as harness:
        await harness.wait_published("events.tick")
        go.set()
        with pytest.raises(RuntimeError, match="ticked off"):
            await settle_until_something_fails(harness)


async def settle_until_something_fails(harness: AgentHarness) -> None:
    async with asyncio.timeout(5):
        while True:
            await harness.settle()
            await asyncio.sleep(0)


async def test_waiting_for_what_is_never_published_says_what_came() -> None:
    async with AgentHarness(Sentinel, timeout_s=0.1) as harness:
        await harness.send("logs.x", b"one")
        with pytest.raises(DeadlineExceeded, match=r"1 of 2 messages on findings\.line"):
            await harness.wait_published("findings.line", 2)


async def test_a_failing_start_fails_the_test_and_leaves_nothing() -> None:
    agent = Agent()

    @agent.hook
    async def start() -> None:
        raise ValueError("no database")

    with pytest.raises(ValueError, match="no database"):
        async with AgentHarness(agent):
            pytest.fail("it started")


async def test_before_the_start_an_agent_cannot_publish() -> None:
    with pytest.raises(RuntimeError, match="not in __init__"):
        await Agent().publish("a.b", b"")


async def test_an_assertion_in_the_test_arrives_as_it_is() -> None:
    with pytest.raises(AssertionError, match="mine"):
        async with AgentHarness(Sentinel):
            raise AssertionError("mine")


async def test_data_that_is_not_json_cannot_be_published() -> None:
    async with AgentHarness(Sentinel) as harness:
        with pytest.raises(InvalidRequest, match="object is not JSON"):
            await harness.agent.publish("a.b", object())
