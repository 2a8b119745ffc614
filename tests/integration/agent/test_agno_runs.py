"""Agno agents and teams as runs: what Agno says, asks and stores, as callers of ours see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agno.agent import Agent
from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.exceptions import ModelProviderError
from agno.media import File, Image
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run import RunContext
from agno.run.agent import RunContentEvent
from agno.run.cancel import acancel_run, aget_active_runs
from agno.team import Team
from agno.tools import tool
from agno.workflow import Step, Workflow
from pydantic import BaseModel

from opmas.agent.agno import AgnoAgent
from opmas.agent.agno.relay import as_json
from opmas.agent.desk import RunResult
from opmas.agent.offline import OfflineModel
from opmas.agent.testing import AgentHarness
from opmas.wire.runs import EventKind, RunLimits, RunStatus, Turn

# What the tools of these tests were called with; each test empties it.
called: list[Any] = []


def add(a: int, b: int) -> int:
    "Add."
    called.append((a, b))
    return a + b


def whoami(run_context: RunContext) -> str:
    "Tell who asks."
    return json.dumps(run_context.dependencies, sort_keys=True)


def broken() -> str:
    "Fail."
    raise ValueError("out of order")


@tool(requires_confirmation=True)
def drop(name: str) -> str:
    "Drop a table."
    called.append(name)
    return f"dropped {name}"


@tool(requires_user_input=True, user_input_fields=["to"])
def send(to: str) -> str:
    "Send a message."
    return to


def offline(**options: Any) -> Agent:
    return Agent(id="offline", name="Offline", model=OfflineModel(), tools=[add, whoami, broken, drop, send], **options)


def team() -> Team:
    member = Agent(id="clerk", name="Clerk", role="does what it is told", model=OfflineModel(), tools=[add, drop])
    leader = OfflineModel(opening='call delegate_task_to_member {"member_id": "clerk", "task": $said}')
    return Team(id="office", name="Office", model=leader, members=[member])


@asynccontextmanager
async def harness(work: Any) -> AsyncIterator[AgentHarness]:
    called.clear()
    async with asyncio.timeout(30), AgentHarness(AgnoAgent(work)) as running:
        yield running


def agno(result: RunResult) -> list[str]:
    return [json.loads(event.agno)["event"] for event in result.events if event.agno]


def kinds(result: RunResult, kind: EventKind) -> list[Any]:
    return [event for event in result.events if event.kind is kind]


# --- what is passed on -----------------------------------------------------------------------------------------------


async def test_an_answer_comes_in_chunks_with_agnos_events_and_its_usage() -> None:
    async with harness(offline()) as running:
        result = await running.run("good morning everybody")

    assert result.status is RunStatus.COMPLETED
    assert result.content == "offline: good morning everybody"
    assert [event.content for event in kinds(result, EventKind.CHUNK)] == [
        "offline: ",
        "good ",
        "morning ",
        "everybody",
    ]
    assert [*dict.fromkeys(agno(result))] == [
        "RunStarted", "ModelRequestStarted", "RunContent", "ModelRequestCompleted", "RunContentCompleted",
        "RunCompleted",
    ]  # fmt: skip
    assert result.usage is not None
    assert (result.usage.model, result.usage.provider) == ("offline-echo", "Offline")
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.total_tokens) == (3, 4, 7)


def test_a_plain_event_is_written_as_agno_writes_it() -> None:
    event = RunContentEvent(agent_id="a", agent_name="ä", run_id="r", session_id="s", content='say "hi"')

    assert as_json(event) == event.to_json(separators=(",", ":"), indent=None)


async def test_every_event_of_a_run_is_written_as_agno_writes_it() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    agent = Agent(model=OfflineModel(), tools=[add], metadata={"of": object()}, telemetry=False)
    events = agent.arun('call add {"a": 1, "b": 2}', stream=True, stream_events=True)
    async for event in events:
        assert json.loads(as_json(event)) == json.loads(event.to_json(separators=(",", ":"), indent=None))


async def test_what_utf_8_cannot_say_fails_no_run() -> None:
    def file_name() -> str:
        return "caf\udce9"

    async with harness(Agent(model=OfflineModel(), tools=[file_name], telemetry=False)) as running:
        result = await running.run("call file_name {}")

    assert (result.status, result.content) == (RunStatus.COMPLETED, "offline: caf?")
    told = [event.tool for event in kinds(result, EventKind.TOOL)]
    assert told[-1].result == "caf?"


async def test_tools_are_told_of_and_know_who_asks_without_meeting_agnos_ids() -> None:
    async with harness(offline()) as running:
        result = await running.run(
            "call add {}\ncall whoami".replace("{}", '{"a": 1, "b": 2}'),
            workspace_id="acme",
            user_id="ann",
            params={"depth": 2},
        )

    begun, *_ = calls = [event.tool for event in kinds(result, EventKind.TOOL)]
    assert (begun.name, begun.arguments, begun.done) == ("add", {"a": 1, "b": 2}, False)
    assert [(call.name, call.done) for call in calls].count(("add", True)) == 1
    assert next(call.result for call in calls if call.name == "add" and call.done) == "3"
    known = json.loads(next(call.result for call in calls if call.name == "whoami" and call.done))
    assert (known["workspace_id"], known["user_id"], known["params"]) == ("acme", "ann", {"depth": 2})
    started = json.loads(next(event.agno for event in result.events if event.agno))
    assert started["session_id"].startswith("acme/")
    assert result.usage is not None
    assert result.usage.tool_calls == 2


async def test_a_tool_that_fails_is_told_as_such_and_does_not_fail_the_run() -> None:
    async with harness(offline()) as running:
        result = await running.run("call broken")

    assert result.status is RunStatus.COMPLETED
    ended = kinds(result, EventKind.TOOL)[-1].tool
    assert (ended.done, ended.result, ended.error) == (True, None, "out of order")


class Verdict(BaseModel):
    good: bool
    why: str


class Judge(OfflineModel):
    def _answer(self, messages: list[Message], tools: Any) -> ModelResponse:
        whole = super()._answer(messages, tools)
        whole.content = '{"good":true,"why":"because"}'
        return whole


async def test_structured_output_is_the_data_of_the_run() -> None:
    async with harness(Agent(id="judge", model=Judge(), output_schema=Verdict, use_json_mode=True)) as running:
        result = await running.run("is it good?")

    assert result.status is RunStatus.COMPLETED
    assert result.data == {"good": True, "why": "because"}


class Silent(OfflineModel):
    async def ainvoke_stream(self, messages: list[Message], tools: Any = None, **_: Any) -> AsyncIterator[Any]:
        raise ModelProviderError("the provider is on strike")
        yield


async def test_a_run_that_agno_calls_an_error_has_failed_and_says_why() -> None:
    async with harness(Agent(id="silent", model=Silent())) as running:
        result = await running.run("hello?")

    assert result.status is RunStatus.FAILED
    assert "the provider is on strike" in result.error
    assert "RunError" in agno(result)


async def test_a_run_that_the_agents_own_code_cancels_is_not_called_completed() -> None:
    async def give_up(run_context: RunContext) -> str:
        "Give up."
        await acancel_run(run_context.run_id)
        return "gave up"

    async with harness(Agent(id="coward", model=OfflineModel(), tools=[give_up])) as running:
        result = await running.run("call give_up")

    assert result.status is RunStatus.FAILED
    assert "cancelled within the agent" in result.error


class Witness(OfflineModel):
    """Keeps what it was shown."""

    def _answer(self, messages: list[Message], tools: Any) -> ModelResponse:
        called.append([*messages])
        return super()._answer(messages, tools)


async def test_without_a_store_the_session_so_far_is_told_to_the_model() -> None:
    earlier = (
        Turn(role="user", content="I am Ann", time=datetime.now(UTC)),
        Turn(role="assistant", content="Hello Ann", time=datetime.now(UTC)),
    )
    async with harness(Agent(id="witness", model=Witness())) as running:
        await running.run("who am I?", session=earlier)
        await running.run("and now?")

        assert [(each.role, each.content) for each in called[0]] == [
            ("user", "I am Ann"), ("assistant", "Hello Ann"), ("user", "who am I?"),
        ]  # fmt: skip
        assert [each.content for each in called[1]] == ["and now?"]


async def test_the_files_of_a_run_are_shown_to_the_model() -> None:
    async with harness(Agent(id="witness", model=Witness(), send_media_to_model=True)) as running:
        result = await running.run("what is this?", files={"cat.png": b"meow", "list.txt": b"milk"})
        said = next(each for each in called[0] if each.role == "user")

    assert result.status is RunStatus.COMPLETED
    shown = [*(said.images or ()), *(said.files or ())]
    assert {each.content for each in shown} == {b"meow", b"milk"}
    assert all(isinstance(each, Image | File) for each in shown)


async def test_a_large_answer_is_reported_in_pieces() -> None:
    words = "word " * 60_000
    async with harness(Agent(id="wordy", model=Wordy(opening=words))) as running:
        result = await running.run("tell me all")

    assert result.status is RunStatus.COMPLETED
    assert result.content == words
    assert json.loads(kinds(result, EventKind.AGNO)[-1].agno)["event"] == "RunCompleted"


class Wordy(OfflineModel):
    async def ainvoke_stream(self, messages: list[Message], tools: Any = None, **_: Any) -> AsyncIterator[Any]:
        yield ModelResponse(role="assistant", content=self.opening)


# --- limits and the end ----------------------------------------------------------------------------------------------


async def test_limits_of_tokens_and_tool_calls_stop_the_run_before_it_does_more() -> None:
    async with harness(offline()) as running:
        tokens = await running.run("one two three four", limits=RunLimits(tokens=5))
        tools = await running.run(
            'call add {"a": 1, "b": 1}\ncall add {"a": 2, "b": 2}', limits=RunLimits(tool_calls=1)
        )

    assert (tokens.status, tokens.reason) == (RunStatus.FAILED, "token_limit")
    assert (tools.status, tools.reason) == (RunStatus.FAILED, "tool_limit")
    assert (2, 2) not in called


async def test_the_tool_calls_of_a_teams_members_count() -> None:
    async with harness(team()) as running:
        result = await running.run('call add {"a": 1, "b": 2}', limits=RunLimits(tool_calls=1))

    assert (result.status, result.reason) == (RunStatus.FAILED, "tool_limit")


async def test_a_cancelled_run_asks_the_model_no_more_and_is_stored_as_cancelled(tmp_path: Path) -> None:
    database = SqliteDb(db_file=str(tmp_path / "agno.db"))
    slow = Agent(id="slow", model=OfflineModel(delay_s=0.01), db=database)
    async with harness(slow) as running:
        run_id = await running.begin("word " * 2000)
        await running.reported(run_id, 5)
        result = await running.cancel(run_id)
        async with asyncio.timeout(10):
            while not (stored := stored_runs(database)):  # noqa: ASYNC110 - Agno stores it in the background
                await asyncio.sleep(0.01)

    assert result.status is RunStatus.CANCELLED
    assert [each.status.value for each in stored] == ["CANCELLED"]


def stored_runs(database: SqliteDb) -> list[Any]:
    found: Any = database.get_sessions(session_type=SessionType.AGENT)
    return [run for session in found for run in session.runs or ()]


# --- teams -----------------------------------------------------------------------------------------------------------


async def test_a_team_answers_as_one_and_its_members_are_told_to_callers_of_agno_only() -> None:
    async with harness(team()) as running:
        result = await running.run('call add {"a": 20, "b": 3}')

    assert result.status is RunStatus.COMPLETED
    assert result.content == "offline: offline: 23"
    assert {event.tool.name for event in kinds(result, EventKind.TOOL)} == {"delegate_task_to_member"}
    assert {"TeamRunStarted", "RunStarted", "ToolCallCompleted", "RunCompleted", "TeamRunCompleted"} <= {*agno(result)}


async def test_a_cancelled_team_stops_its_members_too() -> None:
    before = asyncio.all_tasks()
    slow = Agent(id="clerk", model=OfflineModel(delay_s=0.01))
    leader = OfflineModel(opening='call delegate_task_to_member {"member_id": "clerk", "task": $said}')
    async with harness(Team(id="office", model=leader, members=[slow])) as running:
        run_id = await running.begin("word " * 3000)
        await running.reported(run_id, 12)
        working = await aget_active_runs()
        result = await running.cancel(run_id)
        async with asyncio.timeout(10):
            while working.keys() & await aget_active_runs():  # noqa: ASYNC110 - Agno tells nobody
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - Python closes Agno's generators when it finds them
            await asyncio.sleep(0.01)

    assert result.status is RunStatus.CANCELLED
    assert len(working) >= 2


async def test_a_workflow_answers_with_what_its_last_step_said() -> None:
    steps = [Step(name=name, agent=Agent(id=name, model=OfflineModel())) for name in ("first", "second")]
    async with harness(Workflow(id="chain", name="Chain", steps=steps)) as running:
        result = await running.run("hello")

    assert (result.status, result.content) == (RunStatus.COMPLETED, "offline: offline: hello")
    assert result.usage is not None
    assert result.usage.total_tokens == 3 + 5


async def test_no_copy_of_an_agent_or_of_a_teams_member_reports_to_agno(monkeypatch: pytest.MonkeyPatch) -> None:
    def reports(agent: Agent) -> str:
        "Tell whether it does."
        return f"reports: {agent.telemetry}"

    monkeypatch.setenv("AGNO_TELEMETRY", "false")  # as the runtime does before it loads an agent
    alone = Agent(id="clerk", model=OfflineModel(), tools=[reports], telemetry=True)
    for work in (alone, Team(id="office", model=team().model, members=[alone], telemetry=True)):
        async with harness(work) as running:
            assert "reports: False" in (await running.run("call reports")).content


# --- confirmations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [offline, team])
async def test_a_confirmed_tool_is_called_with_the_arguments_that_the_human_left(make: Any) -> None:
    async with harness(make()) as running:
        asked = await running.run('call drop {"name": "users"}')
        assert called == []
        result = await running.resume(asked, confirmed=True, arguments={"name": "old_users"})

    assert asked.status is RunStatus.WAITING_CONFIRMATION
    assert asked.confirmation is not None
    assert (asked.confirmation.tool_name, asked.confirmation.arguments) == ("drop", {"name": "users"})
    assert result.status is RunStatus.COMPLETED
    assert "dropped old_users" in result.content
    assert called == ["old_users"]


@pytest.mark.parametrize("make", [offline, team])
async def test_a_rejected_tool_is_not_called_and_the_model_is_told_why(make: Any) -> None:
    async with harness(make()) as running:
        asked = await running.run('call drop {"name": "users"}')
        result = await running.resume(asked, confirmed=False, note="not on a Friday")

    assert result.status is RunStatus.COMPLETED
    assert "not on a Friday" in result.content
    assert called == []


async def test_a_run_goes_on_in_another_process_that_has_only_what_was_put_on_record() -> None:
    async with harness(offline()) as first:
        asked = await first.run('call drop {"name": "users"}')
    assert asked.confirmation is not None
    state = json.loads(json.dumps(asked.confirmation.state))
    assert state["run"]
    async with harness(offline()) as second:
        again = await second.run('call drop {"name": "users"}')
        assert again.confirmation is not None
        result = await second.resume(again, confirmed=True)

    assert result.content == "offline: dropped users"


async def test_tools_that_wait_together_are_decided_one_by_one() -> None:
    async with harness(offline()) as running:
        first = await running.run('call drop {"name": "a"}\ncall add {"a": 1, "b": 1}\ncall drop {"name": "b"}')
        second = await running.resume(first, confirmed=True)
        assert second.status is RunStatus.WAITING_CONFIRMATION
        assert called == [(1, 1)]
        result = await running.resume(second, confirmed=False, note="keep b")

    assert second.confirmation is not None
    assert second.confirmation.arguments == {"name": "b"}
    assert called == [(1, 1), "a"]
    assert "dropped a" in result.content
    assert "keep b" in result.content


async def test_what_a_run_used_before_its_confirmation_counts_afterwards() -> None:
    async with harness(offline()) as running:
        asked = await running.run('call drop {"name": "users"}')
        result = await running.resume(asked, confirmed=True)

    assert result.usage is not None
    first = json.loads(next(event.agno for event in asked.events if event.agno and "RequestCompleted" in event.agno))
    assert result.usage.total_tokens > first["total_tokens"]


async def test_a_tool_that_waits_for_more_than_a_yes_or_no_fails_the_run_by_name() -> None:
    async with harness(offline()) as running:
        result = await running.run("call send {}")

    assert result.status is RunStatus.FAILED
    assert "'send' waits for input" in result.error


async def test_files_stay_out_of_the_record_of_a_pause_and_are_shown_again_afterwards() -> None:
    image, text = b"\x89PNG" + bytes(500_000), b"milk " * 100_000
    async with harness(Agent(id="witness", model=Witness(), tools=[drop])) as running:
        asked = await running.run('call drop {"name": "users"}', files={"cat.png": image, "list.txt": text})
        assert asked.confirmation is not None
        state = json.dumps(asked.confirmation.state)
        result = await running.resume(asked, confirmed=True)
        said = next(each for each in called[-1] if each.role == "user")

    assert len(state) < 10_000
    assert result.status is RunStatus.COMPLETED
    assert said.images[0].content == image
    assert said.files[0].get_content_bytes() == text


# --- Agno's own store ------------------------------------------------------------------------------------------------


async def test_the_store_keeps_sessions_by_workspace_and_remembers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPMAS_AGNO_STORE", "sqlite")
    monkeypatch.setenv("OPMAS_DATA_DIR", str(tmp_path))
    async with harness(Agent(id="witness", model=Witness())) as running:
        for workspace in ("acme", "acme", "globex"):
            await running.run(f"hello from {workspace}", workspace_id=workspace, session_id="s1")
        shown = [[each.content for each in messages] for messages in called]

    assert shown[1] == ["hello from acme", "offline: hello from acme", "hello from acme"]
    assert shown[2] == ["hello from globex"]
    kept: Any = SqliteDb(db_file=str(tmp_path / "agno.db")).get_sessions(session_type=SessionType.AGENT)
    assert {session.session_id for session in kept} == {"acme/s1", "globex/s1"}
    assert [run.status.value for session in kept for run in session.runs] == ["COMPLETED"] * 3


async def test_a_pause_is_in_the_store_before_anybody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPMAS_AGNO_STORE", "sqlite")
    monkeypatch.setenv("OPMAS_DATA_DIR", str(tmp_path))
    async with harness(offline()) as running:
        asked = await running.run('call drop {"name": "users"}')
        paused = stored_runs(SqliteDb(db_file=str(tmp_path / "agno.db")))
        await running.resume(asked, confirmed=True)

    assert [each.status.value for each in paused] == ["PAUSED"]
    assert [each.status.value for each in stored_runs(SqliteDb(db_file=str(tmp_path / "agno.db")))] == ["COMPLETED"]
