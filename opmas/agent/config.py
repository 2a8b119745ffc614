"""An agent's config: the file the manager wrote, `{config, schema}`, and what may replace it while the agent runs."""

from pathlib import Path
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from opmas.wire.errors import InvalidRequest
from opmas.wire.manifest.config import config_problems

Config = dict[str, JsonValue]


class ConfigSource:
    """The file, if there is one, and the schema that any config of this agent must satisfy."""

    def __init__(self, file: Path | None = None, schema: Config | None = None) -> None:
        self._file = file
        self._schema = schema or {}

    def first(self) -> Config:
        """Read the file as it was written for this start. Raises `InvalidRequest`.

        Not checked once more: the manager has done that, and JSON Schema costs each instance 1 MB of its own.
        """
        if self._file is None:
            return {}
        try:
            content: Any = from_json(self._file.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"cannot read the config {self._file}: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("config", {}), dict):
            raise InvalidRequest(f"cannot read the config {self._file}: it has to be {{config, schema}}")
        self._schema = content.get("schema") or {}
        return dict(content.get("config", {}))

    def read(self) -> Config:
        """Read the file and check what it says now. Raises `InvalidRequest`."""
        return self.checked(self.first())

    def checked(self, config: Config) -> Config:
        """Return `config` if the schema allows it. Raises `InvalidRequest` with every problem."""
        problems = config_problems(self._schema, config)
        if problems:
            raise InvalidRequest(
                "cannot use this config: " + "; ".join(problems), "The schema stands in agent.yaml under config.schema."
            )
        return config
