"""The assistant with a model behind HTTP: Agno's own classes and OpenAI's own client, against a scripted server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agno.models.utils import MODEL_PROVIDER_CLASSES

from opmas.agent.entrypoint import load_agent
from opmas.agent.environment import Environment
from opmas.agent.models import modules_of, resolve
from opmas.agent.testing import AgentHarness
from opmas.wire.errors import InvalidRequest, PermissionDenied
from opmas.wire.runs import EventKind, RunStatus
from tests.openai_server import Calls, OpenAIServer, Refuses, Says, openai_server

ASSISTANT = Path(__file__).parents[3] / "packages" / "assistant"


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture
async def assistant(
    provider: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AgentHarness]:
    (tmp_path / "config.json").write_text('{"config": {"model": "fast", "instructions": "Be brief."}}')
    models = {"fast": {"model": "openai:gpt-x", "base_url": provider.url, "key": "FAST_KEY"}}
    monkeypatch.setenv("OPMAS_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("OPMAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("OPMAS_MODELS", json.dumps(models))
    monkeypatch.setenv("FAST_KEY", "sk-nobody")
    monkeypatch.syspath_prepend(str(ASSISTANT))  # undoes what loading a package does to the path
    agent = load_agent(Environment("assistant", runtime="agno", package_dir=ASSISTANT))
    async with asyncio.timeout(30), AgentHarness(agent, timeout_s=15) as harness:
        yield harness


async def test_what_the_provider_streams_arrives_as_chunks_with_its_usage(
    provider: OpenAIServer, assistant: AgentHarness
) -> None:
    provider.will(Says("Hello from far away"))

    result = await assistant.run("hi")

    assert (result.status, result.content) == (RunStatus.COMPLETED, "Hello from far away")
    chunks = [event.content for event in result.events if event.kind is EventKind.CHUNK]
    assert chunks == ["Hello ", "from ", "far ", "away"]
    assert result.usage is not None
    assert (result.usage.model, result.usage.input_tokens, result.usage.output_tokens) == ("gpt-x", 11, 7)
    system, user = provider.asked[0]["messages"]
    assert "Be brief." in system["content"]
    assert user == {"role": "user", "content": "hi"}


async def test_the_model_calls_a_tool_and_is_told_what_came_of_it(
    provider: OpenAIServer, assistant: AgentHarness
) -> None:
    provider.will(Calls.one("calculate", expression="17 * 23"), Says("It is 391."))

    result = await assistant.run("how much is 17 times 23?")

    assert result.content == "It is 391."
    assert [event.tool.result for event in result.events if event.tool and event.tool.done] == ["391"]
    told = provider.asked[1]["messages"][-1]
    assert (told["role"], told["content"]) == ("tool", "391")
    assert result.usage is not None
    assert result.usage.total_tokens == 36


async def test_a_confirmed_tool_is_called_and_the_model_goes_on(
    provider: OpenAIServer, assistant: AgentHarness
) -> None:
    provider.will(Calls.one("take_note", text="milk"), Says("Noted."), Calls.one("delete_notes", containing="milk"))
    await assistant.run("note milk")

    asked = await assistant.run("forget the milk")
    provider.will(Says("It is forgotten."))
    result = await assistant.resume(asked, confirmed=True)

    assert asked.status is RunStatus.WAITING_CONFIRMATION
    assert (result.status, result.content) == (RunStatus.COMPLETED, "It is forgotten.")
    assert provider.asked[-1]["messages"][-1]["content"] == "Deleted 1 note."


async def test_a_provider_that_is_busy_for_a_moment_is_asked_again(
    provider: OpenAIServer, assistant: AgentHarness
) -> None:
    provider.will(Refuses(429, "too fast"), Refuses(500, "oops"), Says("There you are."))

    result = await assistant.run("hi")

    assert (result.status, result.content) == (RunStatus.COMPLETED, "There you are.")


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([Refuses(429, "quota used up")] * 3, "quota used up"),
        ([Refuses(500, "internal trouble")] * 3, "internal trouble"),
        ([Says("this will never be finished", cut=2)], "onnection"),
    ],
)
async def test_a_provider_that_fails_for_good_fails_the_run_and_the_error_says_how(
    replies: list[Refuses | Says], said: str, provider: OpenAIServer, assistant: AgentHarness
) -> None:
    provider.will(*replies)

    result = await assistant.run("hi")

    assert result.status is RunStatus.FAILED
    assert said in result.error
    assert not provider.replies

    provider.will(Says("again at work"))
    assert (await assistant.run("and now?")).status is RunStatus.COMPLETED


async def test_a_cancelled_run_hangs_up_on_a_slow_provider(provider: OpenAIServer, assistant: AgentHarness) -> None:
    provider.will(Says("word " * 1000, pause_s=0.02))

    run_id = await assistant.begin("tell me everything")
    await assistant.reported(run_id, 5)
    result = await assistant.cancel(run_id)
    async with asyncio.timeout(10):
        await provider.gone.wait()

    assert result.status is RunStatus.CANCELLED
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("model", "models", "error", "named"),
    [
        ("slow", '{"fast": {"model": "openai:gpt-x"}}', InvalidRequest, "fast, offline"),
        ("fast", '{"fast": {"model": "openai:gpt-x", "key": "NO_SUCH_KEY"}}', PermissionDenied, "NO_SUCH_KEY"),
        ("fast", '{"fast": {"model": "nosuch:gpt-x"}}', InvalidRequest, "nosuch"),
        ("fast", '{"fast": {}}', InvalidRequest, "OPMAS_MODELS"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_with_what_to_do(
    model: str, models: str, error: type[InvalidRequest] | type[PermissionDenied], named: str
) -> None:
    with pytest.raises(error, match=named) as refused:
        resolve(model, {"OPMAS_MODELS": models})

    assert refused.value.hint


def test_a_provider_is_preloaded_from_where_agno_keeps_it() -> None:
    assert modules_of("offline") == ()
    assert modules_of("openai-like:x") == ("agno.models.openai",)
    assert {name: modules_of(f"{name}:x") for name in MODEL_PROVIDER_CLASSES} == {
        name: (module,) for name, (module, _) in MODEL_PROVIDER_CLASSES.items()
    }
