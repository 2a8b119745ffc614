"""An agent's own settings: the JSON Schema a manifest gives for them, and settings held against it.

References are resolved within the schema alone; nothing is fetched.
"""

from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from opmas.wire.errors import InvalidRequest

if TYPE_CHECKING:
    from opmas.wire.manifest.model import Manifest

Config = dict[str, JsonValue]


def schema_problem(schema: Config) -> str:
    """Say what makes `schema` no JSON Schema; empty when it is one."""
    if not schema:
        return ""
    # Imported late: it costs 100 ms, which only packages with a schema shall pay.
    import jsonschema  # noqa: PLC0415

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"is no JSON Schema: {_at('schema', error.absolute_path)} {error.message}"
    return ""


def config_problems(schema: Config, config: Config) -> list[str]:
    """List what in `config` the schema does not allow, each with its path."""
    if not schema:
        return []
    import jsonschema  # noqa: PLC0415 - see above
    import referencing  # noqa: PLC0415
    import referencing.exceptions  # noqa: PLC0415

    validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())
    try:
        errors = sorted(validator.iter_errors(config), key=lambda error: [str(step) for step in error.absolute_path])
        return [f"{_at('config', error.absolute_path)}: {error.message}" for error in errors]
    except referencing.exceptions.Unresolvable as error:
        return [f"config.schema: cannot follow the reference {error.ref!r}: only ones within the schema work"]
    except RecursionError:
        return ["config.schema: refers to itself without end"]


def validate_config(manifest: "Manifest", config: Config) -> Config:
    """Lay `config` over the manifest's defaults (mappings key by key) and return it, or raise InvalidRequest."""
    merged = merged_config(manifest.config.defaults, config)
    problems = config_problems(manifest.config.json_schema, merged)
    if problems:
        raise InvalidRequest(
            f"cannot use this config for {manifest.name}: " + "; ".join(problems),
            f"The schema stands in the manifest of {manifest.name} under config.schema.",
        )
    return merged


def merged_config(lower: Config, upper: Config) -> Config:
    """Lay `upper` over `lower`, mappings key by key."""
    merged = {**lower}
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = merged_config(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _at(root: str, path: Any) -> str:
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
