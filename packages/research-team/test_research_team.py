"""The team as the runtime runs it."""

import asyncio
import json
from pathlib import Path

import pytest

from opmas.agent.entrypoint import load_agent
from opmas.agent.environment import Environment
from opmas.agent.testing import AgentHarness
from opmas.wire.runs import EventKind, RunStatus

HERE = Path(__file__).parent


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> AgentHarness:
    monkeypatch.delenv("OPMAS_CONFIG", raising=False)
    monkeypatch.syspath_prepend(str(HERE))  # undoes what loading a package does to the path
    return AgentHarness(
        load_agent(Environment("research-team", runtime="agno", entrypoint="agent.py:team", package_dir=HERE))
    )


async def test_both_members_are_asked_and_the_leader_answers_from_what_they_say(harness: AgentHarness) -> None:
    async with asyncio.timeout(20), harness:
        result = await harness.run("What is a lease?")

    assert result.status is RunStatus.COMPLETED
    assert "thirty seconds" in result.content
    said = [json.loads(event.agno) for event in result.events if event.agno]
    assert {each["agent_id"] for each in said if each["event"] == "RunCompleted"} == {"researcher", "reviewer"}
    delegated = [event.tool for event in result.events if event.kind is EventKind.TOOL and event.tool]
    assert {call.name for call in delegated} == {"delegate_task_to_members"}
    assert result.usage is not None
    assert result.usage.total_tokens > 0


async def test_what_the_shelf_does_not_know_is_said(harness: AgentHarness) -> None:
    async with asyncio.timeout(20), harness:
        result = await harness.run("Who won the cup?")

    assert result.status is RunStatus.COMPLETED
    assert "nothing on this" in result.content
