"""The life of an instance as a process, on a real nats-server."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from opmas.wire import subjects
from opmas.wire.status import AgentStatus

AGENT = """
    import asyncio, os, time
    from opmas.agent import Agent, Message, command, on, query

    class Tested(Agent):
        async def start(self):
            self.log.info("threshold is %s", self.config.get("threshold"))

        async def stop(self):
            await self.publish(f"findings.{self.id}.stopped", {"in": os.getcwd()})

        async def health_check(self):
            return self.config.get("threshold", 1) < 10

        @on("work.*.line")
        async def line(self, message):
            self.metrics["lines"] += 1
            await self.publish(f"findings.{self.id}.got", {"text": message.text})
            if message.text == "slow":
                await asyncio.sleep(0.5)
                await self.publish(f"findings.{self.id}.done", {"text": message.text})
            if message.text == "stuck":
                await asyncio.Event().wait()
            if message.text == "bad":
                raise ValueError("boom")

        @command("block")
        async def block(self, params):
            time.sleep(params["seconds"])
            self.progress(1, 2, "half way")
            return "blocked"

        @command("crash")
        async def crash(self, params):
            raise KeyError("nothing there")

        @command("big")
        async def big(self, params):
            return "x" * 2_000_000

        @query("top")
        def top(self, params):
            return {"top": params, "thread": True}

        @command("fail")
        async def fail(self, params):
            self.spawn(self.broken(), "broken")

        async def broken(self):
            raise RuntimeError("broken in the background")
"""


async def test_an_instance_is_ready_beats_measures_and_drains(start: Any, tmp_path: Path) -> None:
    agent = await start(AGENT, OPMAS_INSTANCE_ID="tested-2", OPMAS_START_COUNT="3")

    first = await agent.beat()
    assert (first.status, first.instance_id, first.start_count) == (AgentStatus.RUNNING, "tested-2", 3)
    assert first.pid == agent.process.pid
    await agent.bus.publish("work.x.line", b"one")
    await agent.wait(subjects.metrics(agent.id), lambda body: body["metrics"].get("lines") == 1)

    agent.process.terminate()

    assert await agent.ended() == 0
    last = await agent.beat(lambda beat: beat.status is AgentStatus.STOPPED)
    assert last.pid == agent.process.pid
    assert await agent.wait(f"findings.{agent.id}.stopped") == {"in": str(tmp_path / agent.id)}
    assert b"threshold is None" in agent.errors


async def test_messages_commands_and_queries_are_served(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    assert (await agent.query("top", n=3)).result == {"top": {"n": 3}, "thread": True}
    health = (await agent.query("health")).result
    assert (health["healthy"], health["instance_id"]) == (True, f"{agent.id}-0")
    assert (await agent.query("info")).result["subjects"] == ["work.*.line"]
    assert (await agent.command("block", seconds=0)).result == "blocked"
    beat = await agent.beat(lambda beat: beat.progress is not None)
    assert beat.progress is not None
    assert beat.progress.message == "half way"


async def test_without_an_inbox_the_answer_goes_to_the_response_subject(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    await agent.bus.publish(subjects.query(agent.id), b'{"query": "top"}')

    answer = await agent.wait(subjects.response(agent.id))
    assert (answer["status"], answer["command"], answer["agent_id"]) == ("success", "top", agent.id)


@pytest.mark.parametrize("kind", ["command", "query"])
async def test_malformed_input_is_answered_with_an_error_and_the_agent_lives_on(start: Any, kind: str) -> None:
    agent = await start(AGENT)
    await agent.beat()
    subject = f"agent.{agent.id}.{kind}"

    for body in (
        b"",
        b"{",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"%s": 7}' % kind.encode(),
        b'{"%s": "x", "params": []}' % kind.encode(),
        b'{"%s": "%s"}' % (kind.encode(), b"x" * 900_000),
    ):
        answer = await agent.send(subject, body)
        assert answer.status == "error"
        assert answer.error is not None
        assert answer.error.code == "invalid_request"
        assert answer.error.hint

    assert (await agent.query("health")).status == "success"


async def test_a_failing_handler_is_logged_counted_and_answered(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    crash = await agent.command("crash")
    bad = await agent.send("work.x.line", b"bad")
    big = await agent.command("big")

    assert crash.error is not None
    assert (crash.error.code, crash.error.message) == ("agent_failed", "KeyError: 'nothing there'")
    assert bad.error is not None
    assert bad.error.message == "ValueError: boom"
    assert big.error is not None
    assert big.error.code == "payload_too_large"
    assert (await agent.query("metrics")).result["errors_total"] == 2
    agent.process.terminate()
    assert await agent.ended() == 0
    assert b"Traceback" in agent.errors
    assert b"boom" in agent.errors


async def test_work_in_flight_is_finished_before_the_end(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()
    await agent.bus.publish("work.x.line", b"slow")
    await agent.wait(f"findings.{agent.id}.got")

    agent.process.terminate()

    assert await agent.ended() == 0
    assert await agent.wait(f"findings.{agent.id}.done") == {"text": "slow"}


async def test_work_that_does_not_end_is_given_up_within_the_grace(start: Any) -> None:
    agent = await start(AGENT, OPMAS_STOP_GRACE_S="0.4")
    await agent.beat()
    await agent.bus.publish("work.x.line", b"stuck")
    await agent.wait(f"findings.{agent.id}.got")

    agent.process.terminate()

    assert await agent.ended() == 0
    assert b"gave up 1 messages" in agent.errors
    await agent.wait(f"findings.{agent.id}.stopped")


async def test_a_second_signal_hurries(start: Any) -> None:
    agent = await start(AGENT, OPMAS_STOP_GRACE_S="600")
    await agent.beat()
    await agent.bus.publish("work.x.line", b"stuck")
    await agent.wait(f"findings.{agent.id}.got")

    agent.process.terminate()
    async with asyncio.timeout(10):
        while b"draining" not in await agent.process.stderr.readline():
            pass
    agent.process.send_signal(signal.SIGINT)

    assert await agent.ended() == 0


async def test_the_command_drain_ends_the_instance_like_a_signal(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    assert (await agent.command("drain")).result == {"draining": True, "in_flight": 1}

    assert await agent.ended() == 0
    await agent.beat(lambda beat: beat.status is AgentStatus.STOPPED)


async def test_a_command_for_another_instance_is_left_to_it(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    await agent.bus.publish(
        subjects.command(agent.id), json.dumps({"command": "drain", "params": {"instance_id": "other-1"}}).encode()
    )

    assert (await agent.command("block", seconds=0, instance_id=f"{agent.id}-0")).result == "blocked"
    assert (await agent.query("health")).status == "success"


async def test_config_is_reloaded_when_valid_and_kept_when_not(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    schema = {"type": "object", "properties": {"threshold": {"type": "integer"}}}
    file.write_text(json.dumps({"config": {"threshold": 5}, "schema": schema}))
    agent = await start(AGENT, OPMAS_CONFIG=str(file))
    await agent.beat()

    file.write_text(json.dumps({"config": {"threshold": "much"}, "schema": schema}))
    refused = await agent.command("reload")
    assert refused.error is not None
    assert "config.threshold: 'much' is not of type 'integer'" in refused.error.message

    file.write_text("{broken")
    assert (await agent.command("reload")).status == "error"
    assert (await agent.command("reload", config={"threshold": 7})).result == {"config": {"threshold": 7}}
    assert (await agent.command("reload", config=[])).status == "error"

    file.write_text(json.dumps({"config": {"threshold": 11}, "schema": schema}))
    assert (await agent.command("reload")).result == {"config": {"threshold": 11}}
    unwell = await agent.beat(lambda beat: beat.status is AgentStatus.ERROR)
    assert unwell.message == "health_check says no"

    await agent.command("reload", config={"threshold": 1})
    agent.said.clear()
    await agent.beat(lambda beat: beat.status is AgentStatus.RUNNING)


async def test_the_log_level_changes_while_it_runs(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    assert (await agent.command("log_level", level="debug")).result == {"level": "DEBUG"}
    assert (await agent.command("log_level", level="loud")).status == "error"


async def test_a_blocked_loop_shows_as_lag(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    await agent.command("block", seconds=0.5)

    assert (await agent.beat(lambda beat: beat.loop_lag_ms > 100)).status is AgentStatus.RUNNING


async def test_failing_background_work_ends_the_agent_with_its_reason(start: Any) -> None:
    agent = await start(AGENT)
    await agent.beat()

    await agent.command("fail")

    assert await agent.ended() == 1
    assert b"RuntimeError: broken in the background" in agent.errors
    last = await agent.beat(lambda beat: beat.status is AgentStatus.ERROR)
    assert last.message == "RuntimeError: broken in the background"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_that_name", b"ModuleNotFoundError"),
        ("class Tested: pass", b"the class Tested, not an opmas.agent.Agent"),
        ("other = 1", b"cannot find 'Tested' in agent.py: it defines other"),
        (
            "from opmas.agent import Agent\nclass Tested(Agent):\n    async def start(self): raise ValueError('no')",
            b"ValueError: no",
        ),
        (
            "from opmas.agent import Agent, command\n"
            "class Tested(Agent):\n    @command('drain')\n    async def d(self, params): ...",
            b"every agent has it already",
        ),
    ],
)
async def test_an_agent_that_cannot_start_exits_with_1_and_says_why(start: Any, code: str, said: bytes) -> None:
    agent = await start(code)

    assert await agent.ended() == 1
    assert said in agent.errors
    assert agent.said == []


async def test_a_signal_during_the_start_ends_it_cleanly(start: Any) -> None:
    agent = await start(
        """
        import asyncio
        from opmas.agent import Agent

        class Tested(Agent):
            async def start(self):
                await self.publish(f"findings.{self.id}.starting", {})
                await asyncio.Event().wait()
        """
    )
    await agent.wait(f"findings.{agent.id}.starting")

    agent.process.terminate()

    assert await agent.ended() == 0


async def test_a_thread_left_behind_does_not_hold_up_the_end(start: Any) -> None:
    agent = await start(
        """
        import threading
        from opmas.agent import Agent, on

        class Tested(Agent):
            @on("work.*.line")
            def line(self, message):
                self.publish_from_thread(f"findings.{self.id}.got", {})
                threading.Event().wait()
        """,
        OPMAS_STOP_GRACE_S="0.4",
    )
    await agent.beat()
    await agent.bus.publish("work.x.line", b"")
    await agent.wait(f"findings.{agent.id}.got")

    agent.process.terminate()

    assert await agent.ended() == 0


async def test_without_nats_it_says_so_and_ends_on_a_signal(start: Any, free_port: Any) -> None:
    agent = await start(AGENT, NATS_URL=f"nats://127.0.0.1:{free_port()}", OPMAS_LOG_LEVEL="debug")
    async with asyncio.timeout(10):
        while b"refused" not in (await agent.process.stderr.readline()).lower():
            pass

    agent.process.terminate()

    assert await agent.ended() == 0


async def test_replicas_share_messages_and_all_hear_commands(start: Any) -> None:
    code = """
        from opmas.agent import Agent, command, on

        class Tested(Agent):
            @on("shared.line")
            async def line(self, message):
                await self.publish(f"findings.{self.id}.one", {"by": self.instance_id})

            @on("shared.all", every_replica=True)
            async def all(self, message):
                await self.publish(f"findings.{self.id}.all", {"by": self.instance_id})
    """
    first = await start(code)
    second = await start(code, AGENT_ID=first.id, OPMAS_INSTANCE_ID=f"{first.id}-1")
    names = {f"{first.id}-0", f"{first.id}-1"}
    for name in names:
        await first.beat(lambda beat, name=name: beat.instance_id == name)

    for _ in range(20):
        await first.bus.publish("shared.line", b"")
    await first.bus.publish("shared.all", b"")
    await first.bus.publish(subjects.command(first.id), b'{"command": "drain"}')

    assert await first.ended() == await second.ended() == 0
    await first.bus.flush()
    by = {
        topic: [json.loads(m.data)["by"] for m in first.said if m.subject.endswith(topic)] for topic in (".one", ".all")
    }
    assert len(by[".one"]) == 20
    assert set(by[".all"]) == names
    assert len(by[".all"]) == 2
