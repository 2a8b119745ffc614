"""The JSON Schema of `agent.yaml`, for editors and for `opmas schema agent`."""

from typing import Any

from opmas.wire.manifest.model import Manifest

SCHEMA_ID = "https://opmas.dev/schema/agent.json"


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12): types, defaults and words for every field."""
    schema = Manifest.model_json_schema(mode="validation")
    properties = schema["properties"]
    extension = properties.pop("x-*")
    definitions = schema["$defs"]
    # The two sections that may also be written as one word.
    for section, word in (("Restart", {"$ref": "#/$defs/RestartCondition"}), ("Heartbeat", {"const": "process"})):
        definitions[section] = {"anyOf": [word, definitions[section]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "OPMAS agent manifest (agent.yaml)",
        "patternProperties": {"^x-": {"description": extension["description"]}},
        "anyOf": [
            {"required": ["entrypoint"]},
            {"required": ["command"]},
            {"required": ["runtime"], "properties": {"runtime": {"const": "agno"}}},
        ],
    }
