"""Which models and keys an instance is given, and what is said when one is missing."""

import json

import pytest

from agent_manager.ending import Failure
from agent_manager.models import ModelMissing, model_environment, wanted_models
from agent_manager.settings import ModelSettings
from agent_manager.templates import preload_of
from opmas.wire.manifest import Manifest, parse_manifest

MODELS = {
    "fast": ModelSettings(model="openai:gpt-5-mini", key="OPENAI_API_KEY"),
    "local": ModelSettings(model="ollama:llama", base_url="http://127.0.0.1:11434"),
    "other": ModelSettings(model="groq:x", key="GROQ_API_KEY"),
}
HOST = {"OPENAI_API_KEY": "secret", "GROQ_API_KEY": "another", "HOME": "/root"}


def listing(*names: str, more: str = "") -> Manifest:
    return parse_manifest(f"name: a\nruntime: agno\nmodels: {json.dumps(names)}\n{more}", "agent.yaml")


def test_an_instance_is_given_the_models_its_manifest_lists_with_their_keys_and_no_others() -> None:
    env = model_environment(listing("fast", "local"), MODELS, HOST)

    assert json.loads(env.pop("OPMAS_MODELS")) == {
        "fast": {"model": "openai:gpt-5-mini", "key": "OPENAI_API_KEY"},
        "local": {"model": "ollama:llama", "base_url": "http://127.0.0.1:11434"},
    }
    assert env == {"OPENAI_API_KEY": "secret"}
    assert model_environment(listing(), MODELS, HOST) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fsat", "cannot use the model 'fsat': `models` in config/agent_manager.yaml does not define it"),
        ("fast", "cannot use the model 'fast': its key OPENAI_API_KEY is not in the manager's environment"),
    ],
)
def test_a_model_or_key_that_is_missing_ends_the_start_for_good(name: str, words: str) -> None:
    with pytest.raises(ModelMissing) as raised:
        model_environment(listing(name), MODELS, {})

    assert words in raised.value.message
    assert raised.value.hint
    assert Failure.of(raised.value).final


def test_templates_are_warm_for_the_models_and_the_store_of_their_agents_whatever_the_order() -> None:
    manifest = listing("fast", "local", more="agno_store: sqlite\n")

    models = wanted_models(manifest, MODELS, {"model": "groq:y"})
    modules = preload_of(manifest, models)

    assert models == ("openai:gpt-5-mini", "ollama:llama", "groq:y")
    assert {"agno.models.openai", "agno.models.ollama", "agno.models.groq", "opmas.agent.agno.store"} <= {*modules}
    assert preload_of(manifest, models[::-1]) == modules
    assert "opmas.agent.agno.store" not in preload_of(listing(), ())
    assert preload_of(listing(), ("nobody:x", "offline", "fast", "")) == preload_of(listing(), ())
