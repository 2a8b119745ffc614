"""The assistant as the runtime loads it, and its models."""

import asyncio
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from opmas.agent.entrypoint import load_agent
from opmas.agent.environment import Environment
from opmas.agent.testing import AgentHarness
from opmas.wire.errors import InvalidRequest, OpmasError

HERE = Path(__file__).parent


def assistant() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assistant_under_test", HERE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_runtime_loads_the_assistant_and_it_tells_its_model_and_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"config": {"model": "offline", "instructions": "Be kind."}}))
    monkeypatch.setitem(os.environ, "OPMAS_CONFIG", str(file))
    monkeypatch.syspath_prepend(str(HERE))  # undoes what loading a package does to the path

    async with AgentHarness(load_agent(Environment("assistant", runtime="agno", package_dir=HERE))) as harness:
        info = await harness.query("info")

    assert isinstance(info, dict)
    assert "offline-echo" in json.dumps(info)
    assert "tell_time" in json.dumps(info)


async def test_the_offline_model_answers_the_same_for_the_same_words() -> None:
    agent = assistant().build({})
    async with asyncio.timeout(20):
        answers = [(await agent.arun("Good morning")).content for _ in range(2)]

    assert answers == ["offline: Good morning"] * 2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nosuch:model", "nosuch"),
        ("openai:gpt-5", "openai"),  # its library is no dependency of OPMAS, or its key is not set here
    ],
)
def test_a_model_that_cannot_work_is_refused_by_name(
    model: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(OpmasError) as refused:
        assistant().choose_model(model)

    assert expected in refused.value.message
    assert refused.value.hint


def test_a_missing_library_is_an_invalid_request_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "agno.models.openai", None)

    with pytest.raises(InvalidRequest, match="openai:gpt-5"):
        assistant().choose_model("openai:gpt-5")


def test_the_tool_tells_the_time_and_survives_a_wrong_timezone() -> None:
    assert "UTC" in assistant().tell_time()
    assert "no timezone" in assistant().tell_time("Nowhere/Town")
