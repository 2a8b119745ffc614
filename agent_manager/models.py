"""Which models an instance is given: of those the operator has named, the ones its manifest lists, with their keys.

The instance makes Agno's model of them (`opmas.agent.models`). A key is in the environment of those instances alone
that may use its model. An agent whose model or key is missing is not started: it would come up and fail every run.
"""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from agent_manager.settings import CONFIG_FILE, ModelSettings
from opmas.wire.errors import OpmasError
from opmas.wire.manifest import Manifest

Models = Mapping[str, ModelSettings]

CANNOT_USE_MODEL = "cannot use the model"


class ModelMissing(OpmasError):
    """A manifest lists a model that the operator has not defined, or whose key is not there."""

    code, status = "model_missing", 422


def model_environment(manifest: Manifest, models: Models, host: Mapping[str, str]) -> dict[str, str]:
    """What an instance finds in its environment of the models it may use. Raises `ModelMissing`."""
    allowed = {name: _defined(name, models) for name in manifest.models}
    if not allowed:
        return {}
    env = {"OPMAS_MODELS": json.dumps({name: spec.model_dump(exclude_defaults=True) for name, spec in allowed.items()})}
    for name, spec in allowed.items():
        if spec.key and not host.get(spec.key):
            raise ModelMissing(
                f"{CANNOT_USE_MODEL} {name!r}: its key {spec.key} is not in the manager's environment",
                f"export {spec.key} where the manager is started, or correct the model's `key` in {CONFIG_FILE}",
            )
        if spec.key:
            env[spec.key] = host[spec.key]
    return env


def wanted_models(manifest: Manifest, models: Models, config: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Name, as `provider:id`, the models that instances may be expected to make, for their providers to be warm."""
    listed = (models[name].model for name in manifest.models if name in models)
    return tuple(dict.fromkeys((*listed, str(config.get("model", "")))))


def _defined(name: str, models: Models) -> ModelSettings:
    if name not in models:
        known = ", ".join(sorted(models)) or "none"
        raise ModelMissing(
            f"{CANNOT_USE_MODEL} {name!r}: `models` in {CONFIG_FILE} does not define it (it defines {known})",
            "define it there, or take it out of `models` in agent.yaml",
        )
    return models[name]
