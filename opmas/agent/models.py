"""From the name of a model to Agno's model: the one resolver for all packages.

A name is one that the operator has configured and the manifest lists (the manager tells them in `OPMAS_MODELS`), or
`provider:id`, or `offline`. Imports Agno, and of its providers the one that is asked for, only when it makes a model.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from opmas.wire.errors import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from agno.models.base import Model

OFFLINE = "offline"

# Where Agno keeps a provider whose module is not named like it; `azure-openai` is in `azure`, as every other pair.
_KEPT_IN = {
    "llama-cpp": "llama_cpp",
    "llama-openai": "meta",
    "open-responses": "openai",
    "tuning-engines": "tuning_engines",
    "vertexai-claude": "vertexai.claude",
}
# Agno's own name `openai` means the Responses API, which hardly any other server speaks.
_CHAT = frozenset({"openai", "openai-chat"})


class ModelSpec(BaseModel):
    """A model that the operator has given a name: `provider:id`, where it is, and the variable that holds its key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    base_url: str = ""
    key: str = ""


_Specs = TypeAdapter(dict[str, ModelSpec])


def modules_of(model: str) -> tuple[str, ...]:
    """Name the modules that a template imports for `provider:id`: imported in the fork they cost 7 s and 37 MB each.

    Nothing is imported here; that a module exists is for the caller to find out.
    """
    provider, colon, _ = model.partition(":")
    folder = provider.partition("-")[0]
    return (f"agno.models.{_KEPT_IN.get(provider, folder)}",) if colon and folder.isidentifier() else ()


def resolve(name: str = "", environ: Mapping[str, str] = os.environ) -> "Model":
    """Make the model called `name`; without one, the model that is named `default`, or the offline one.

    Raises `InvalidRequest` for a name nobody knows or a library that is missing, `PermissionDenied` without its key.
    """
    named = _named(environ)
    if not name:
        name = "default" if "default" in named else OFFLINE
    spec = named.get(name) or ModelSpec(model=name)
    if spec.model == OFFLINE:
        from opmas.agent.offline import OfflineModel  # noqa: PLC0415 - Agno is not for every process

        return OfflineModel()
    if ":" not in spec.model:
        known = ", ".join(sorted({*named, OFFLINE}))
        raise InvalidRequest(
            f"there is no model {name!r} for this agent: it may use {known}",
            "List it under `models` in agent.yaml and define it under `models` in agent_manager.yaml, or write "
            "provider:id, such as openai:gpt-5.",
        )
    return _made(name, spec, _key(name, spec, environ))


def _named(environ: Mapping[str, str]) -> dict[str, ModelSpec]:
    try:
        return _Specs.validate_json(environ.get("OPMAS_MODELS") or "{}")
    except ValidationError as error:
        raise InvalidRequest(
            f"cannot read OPMAS_MODELS: {error}", 'It is JSON: {"name": {"model": "provider:id", "key": "VARIABLE"}}.'
        ) from error


def _key(name: str, spec: ModelSpec, environ: Mapping[str, str]) -> str:
    if not spec.key:
        return ""
    if not environ.get(spec.key):
        raise PermissionDenied(
            f"cannot use the model {name!r}: {spec.key} is not set",
            f"Export {spec.key} before `opmas up`, or correct the model's `key` in agent_manager.yaml.",
        )
    return environ[spec.key]


def _made(name: str, spec: ModelSpec, key: str) -> "Model":
    provider = spec.model.partition(":")[0]
    try:
        model = _instance(spec, key)
        make_client = getattr(model, "get_client", None)
        if make_client is not None:
            make_client()  # most providers look for their key here and not before
    except ImportError as error:
        raise InvalidRequest(
            f"cannot use the model {name!r}: {error}",
            f"Install the library of {provider} in the Python that runs the agent, or set model: offline.",
        ) from error
    except ValueError as error:
        raise InvalidRequest(
            f"cannot use the model {name!r}: {error}", "Write provider:id, as Agno names them."
        ) from error
    except Exception as error:  # each provider has its own class for a missing key, and all mean the same to the reader
        raise PermissionDenied(
            f"cannot use the model {name!r}: {str(error).rstrip('. ')}",
            "Export the key before `opmas up`, and name its variable under `environment` in agent.yaml or as the "
            "`key` of the model in agent_manager.yaml.",
        ) from error
    return model


def _instance(spec: ModelSpec, key: str) -> "Model":
    provider, _, model_id = spec.model.partition(":")
    given: dict[str, Any] = {"api_key": key} if key else {}
    if provider == "openai-like" or (provider in _CHAT and spec.base_url):
        from agno.models.openai.like import OpenAILike  # noqa: PLC0415 - a library that not every agent has

        return OpenAILike(id=model_id, base_url=spec.base_url or None, **given)
    if provider in _CHAT:
        from agno.models.openai import OpenAIChat  # noqa: PLC0415

        return OpenAIChat(id=model_id, **given)
    from agno.models.utils import get_model  # noqa: PLC0415

    model = get_model(spec.model)
    assert model is not None  # noqa: S101 - only for no name at all
    if spec.base_url:
        given["base_url"] = spec.base_url
    for field, value in given.items():
        if not hasattr(model, field):
            raise ValueError(f"{provider} takes no {field}")
        setattr(model, field, value)
    return model
