"""The manager's settings: `config/agent_manager.yaml`, and above it `OPMAS_MANAGER__*` for its `service` section."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
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


class ManagerSettings(Settings):
    """Everything an AgentManager is told."""

    packages: Path = Field(default_factory=lambda: Path(os.environ.get("OPMAS_PACKAGES") or "packages").absolute())
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    permissions: PermissionSettings = Field(default_factory=PermissionSettings)

    @property
    def database_url(self) -> str:
        """The database, SQLite in the data directory unless told otherwise."""
        return self.database.url or f"sqlite:///{self.home / 'manager.db'}"
