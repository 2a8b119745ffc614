"""The manager's settings: `config/agent_manager.yaml`, and above it `OPMAS_MANAGER__*` for its `service` section."""

import os
import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import SettingsConfigDict

from opmas import __version__
from opmas.settings import LogLevel, Section, Settings
from opmas.wire.ids import is_agent_id

CONFIG_FILE = Path("config/agent_manager.yaml")


def _node_name() -> str:
    name = socket.gethostname().split(".")[0].lower()
    return name if is_agent_id(name) else "node"


class ServiceSettings(Section):
    """What the daemon calls itself and how often it looks; intervals in seconds."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_MANAGER__")

    name: str = "agent-manager"
    version: str = __version__
    log_level: LogLevel = "info"
    node: str = Field(default_factory=_node_name)
    discovery_interval: float = Field(default=300, gt=0)
    monitoring_interval: float = Field(default=10, gt=0)
    cleanup_interval: float = Field(default=3600, gt=0)
    # Events and audit rows older than this are removed by the cleanup.
    retention_days: float = Field(default=30, gt=0)
    on_manager_exit: Literal["stop", "keep"] = "stop"
    # Restart every agent whose package's files change, not only those that say `watch`.
    reload: bool = False
    # How long a stopping manager waits for its agents before it kills what is left.
    drain_timeout: float = Field(default=30, ge=0)

    @field_validator("node")
    @classmethod
    def _node_is_a_subject_token(cls, node: str) -> str:
        if not is_agent_id(node):
            raise ValueError("a node's name becomes a subject token: lower-case letters, digits, - and _ only")
        return node


class PermissionSettings(Section):
    """What an operator grants to packages beyond what every agent may do.

    `allow`: subjects a manifest may ask for besides `logs.>`, `findings.>` and `events.>`. `streams`: the agents that
    may use the JetStream API for the stream called like themselves, and are trusted with the account (docs/adr/004).
    """

    model_config = SettingsConfigDict(env_prefix="OPMAS_PERMISSIONS__")

    allow: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()


_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class ModelSettings(BaseModel):
    """A model that packages may name: `provider:id` as Agno knows it, where it is, and the variable with its key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    key: str = ""
    base_url: str = ""

    @field_validator("model")
    @classmethod
    def _has_a_provider(cls, model: str) -> str:
        provider, colon, name = model.partition(":")
        if model != "offline" and not (provider and colon and name):
            raise ValueError("write provider:id, such as openai:gpt-5-mini, or offline")
        return model

    @field_validator("key")
    @classmethod
    def _key_names_a_variable(cls, key: str) -> str:
        if key and not _VARIABLE.fullmatch(key):
            raise ValueError("give the name of the variable that holds the key, such as OPENAI_API_KEY, not the key")
        return key


class ManagerSettings(Settings):
    """Everything an AgentManager is told."""

    packages: Path = Field(default_factory=lambda: Path(os.environ.get("OPMAS_PACKAGES") or "packages").absolute())
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    permissions: PermissionSettings = Field(default_factory=PermissionSettings)
    # By the names that packages use.
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """The database, SQLite in the data directory unless told otherwise."""
        return self.database.url or f"sqlite:///{self.home / 'manager.db'}"
