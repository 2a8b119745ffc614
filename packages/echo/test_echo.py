"""Echo in the harness: every param does what the README says."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from opmas.agent import Agent
from opmas.agent.testing import AgentHarness
from opmas.wire.manifest import parse_manifest, validate_config
from opmas.wire.runs import EventKind, RunStatus

HERE = Path(__file__).parent
MANIFEST = parse_manifest((HERE / "agent.yaml").read_text(), "agent.yaml")


def echo() -> type[Agent]:
    spec = importlib.util.spec_from_file_location("echo_under_test", HERE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Agent] = module.Echo
    return found


def harness(**config: Any) -> AgentHarness:
    return AgentHarness(echo(), config=validate_config(MANIFEST, config), agent_id="echo")


@pytest.mark.parametrize("params", [{}, {"thread": True}, {"delay": 0.001}])
async def test_a_message_comes_back_word_by_word(params: dict[str, Any]) -> None:
    async with harness() as agent:
        result = await agent.run("one two  three", params=params)

    assert (result.status, result.content) == (RunStatus.COMPLETED, "one two  three")
    assert [event.content for event in result.events if event.kind is EventKind.CHUNK] == ["one ", "two ", " ", "three"]


async def test_it_repeats_prefixes_returns_data_and_reads_files() -> None:
    async with harness(prefix="> ") as agent:
        result = await agent.run("a", params={"repeat": 3, "data": {"x": 1}}, files={"f.txt": b"12"})

    assert result.content == "> a a a\nf.txt: 2 bytes"
    assert result.data == {"x": 1}
    assert result.usage is not None
    assert result.usage.total_tokens == 6


async def test_it_fails_when_asked_to_and_refuses_what_is_no_number() -> None:
    async with harness() as agent:
        failed = await agent.run("so far", params={"fail": "boom"})
        refused = await agent.run("x", params={"delay": "long"})

    assert (failed.status, failed.content, failed.error) == (RunStatus.FAILED, "so far", "RuntimeError: boom")
    assert refused.reason == "invalid_request"


async def test_it_asks_before_it_speaks() -> None:
    async with harness() as agent:
        waiting = await agent.run("secret", params={"confirm": True})
        edited = await agent.resume(waiting, confirmed=True, arguments={"message": "public word"})
        silent = await agent.resume(await agent.run("x", params={"confirm": True}), confirmed=False)

    assert (edited.content, silent.content) == ("public word", "Silent, as somebody wants it.")
