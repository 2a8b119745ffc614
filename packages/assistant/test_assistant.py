"""The assistant as the runtime runs it: what it says, what it does, and what it asks before."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opmas.agent.entrypoint import load_agent
from opmas.agent.environment import Environment
from opmas.agent.testing import AgentHarness
from opmas.wire.errors import OpmasError
from opmas.wire.runs import RunStatus

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the manager gives every agent; undoes what loading a package does to the path."""
    monkeypatch.setenv("OPMAS_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(os.environ, "OPMAS_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path


@asynccontextmanager
async def assistant(home: Path, **config: str) -> AsyncIterator[AgentHarness]:
    (home / "config.json").write_text(json.dumps({"config": config}))
    agent = load_agent(Environment("assistant", runtime="agno", package_dir=HERE))
    async with asyncio.timeout(20), AgentHarness(agent) as harness:
        yield harness


async def test_the_runtime_loads_the_assistant_and_it_tells_its_model_and_tools(home: Path) -> None:
    async with assistant(home, model="offline", instructions="Be kind.") as harness:
        info = json.dumps(await harness.query("info"))

    assert "offline-echo" in info
    assert all(name in info for name in ("tell_time", "calculate", "take_note", "list_notes", "delete_notes"))


async def test_the_offline_model_answers_the_same_for_the_same_words(home: Path) -> None:
    async with assistant(home) as harness:
        answers = [(await harness.run("Good morning")).content for _ in range(2)]

    assert answers == ["offline: Good morning"] * 2


@pytest.mark.parametrize(("model", "expected"), [("nosuch:model", "nosuch"), ("openai:gpt-5", "openai")])
async def test_a_model_that_cannot_work_is_refused_by_name(
    model: str, expected: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(OpmasError) as refused:
        async with assistant(home, model=model):
            pass

    assert expected in refused.value.message
    assert refused.value.hint


async def test_the_time_is_told_and_a_wrong_timezone_survived(home: Path) -> None:
    async with assistant(home) as harness:
        right = await harness.run("call tell_time")
        wrong = await harness.run('call tell_time {"timezone": "Nowhere/Town"}')

    assert "UTC" in right.content
    assert "no timezone" in wrong.content


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("(3 + 4) * -2", "-14"),
        ("2 ** 0.5", "1.414"),
        ("1 / 0", "Cannot work out"),
        ("9 ** 9 ** 9", "too large"),
        ("(-8) ** 0.5", "no real number"),
        ("__import__('os').getcwd()", "only numbers"),
        ("1 +", "no sum"),
        ("1" * 501, "more than 500"),
    ],
)
async def test_sums_are_worked_out_and_nothing_else_is(expression: str, result: str, home: Path) -> None:
    async with assistant(home) as harness:
        answer = await harness.run(f"call calculate {json.dumps({'expression': expression})}")

    assert result in answer.content


async def test_notes_are_kept_for_each_user_of_each_workspace(home: Path) -> None:
    async with assistant(home) as harness:
        for workspace, user in (("acme", "ann"), ("acme", "bob"), ("globex", "ann")):
            note = json.dumps({"text": f"{user} of {workspace}"})
            await harness.run(f"call take_note {note}", workspace_id=workspace, user_id=user)
        hers = await harness.run("call list_notes", workspace_id="acme", user_id="ann")

    assert "ann of acme" in hers.content
    assert "bob" not in hers.content
    assert "globex" not in hers.content


@pytest.mark.parametrize("confirmed", [True, False])
async def test_notes_are_deleted_only_when_a_human_has_said_so(confirmed: bool, home: Path) -> None:
    async with assistant(home) as harness:
        for text in ("buy milk", "call Bob"):
            await harness.run(f"call take_note {json.dumps({'text': text})}")
        asked = await harness.run('call delete_notes {"containing": "milk"}')
        decided = await harness.resume(asked, confirmed=confirmed)
        left = await harness.run("call list_notes")

    assert asked.status is RunStatus.WAITING_CONFIRMATION
    assert decided.status is RunStatus.COMPLETED
    assert ("milk" not in left.content) is confirmed
    assert "call Bob" in left.content
