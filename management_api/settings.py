"""The API's settings: `config/management_api.yaml`, and above it `OPMAS_API__*` for what stands under `service`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from opmas import __version__
from opmas.settings import LogLevel, Section, Settings

CONFIG_FILE = Path("config/management_api.yaml")

_WITHOUT_EFFECT = {
    "REDIS_URL": "NATS and the database hold what Redis held",
    "JWT_SECRET": "callers are known by the local admin token, see `opmas token`",
}


class ServiceSettings(Section):
    """The server itself."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_API__")

    name: str = "management-api"
    version: str = __version__
    log_level: LogLevel = "info"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    agentos_port: int = Field(default=7777, ge=0, le=65535)
    # How long open requests get to end after SIGTERM, in seconds.
    shutdown_timeout: float = Field(default=3, gt=0, le=60)


class ApiSettings(Settings):
    """Everything the management API is told."""

    service: ServiceSettings = Field(default_factory=ServiceSettings)

    @property
    def nats_url(self) -> str:
        """The NATS server: the one named, else the embedded one of this machine."""
        return self.nats.url or f"nats://127.0.0.1:{self.nats.port}"

    @property
    def nats_creds(self) -> Path | None:
        """The credentials named, else those made for the API beside the embedded server's keys, if there are any."""
        embedded = self.home / "nats" / "api.creds"
        if self.nats.creds or self.nats.url or self.nats.user or not embedded.exists():
            return self.nats.creds
        return embedded


def without_effect(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """List the names that are set but change nothing, each with the reason, so that the log can say so."""
    return ((name, reason) for name, reason in _WITHOUT_EFFECT.items() if environ.get(name))
