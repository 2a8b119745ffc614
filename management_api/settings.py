"""The API's settings: `config/management_api.yaml`, and above it `OPMAS_API__*` for what stands under `service`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import SettingsConfigDict

from management_api.auth.settings import AuthSettings, RateLimitSettings, is_loopback
from opmas import __version__
from opmas.settings import LogLevel, Section, Settings

CONFIG_FILE = Path("config/management_api.yaml")

_WITHOUT_EFFECT = {
    "REDIS_URL": "NATS and the database hold what Redis held",
}


# A body is an agent's config at most; what a run is asked travels to its instance in one message with what was said
# before, and NATS takes a megabyte.
MAX_BODY_BYTES = 1 << 20
_MAX_RUN_BYTES = 512 << 10
_RUNS_PATH = re.compile(r"/api/v1/agents/[^/]*/runs(/|$)")
# Of an upload, beside the files: boundaries and headers.
_FORM_BYTES = 64 << 10
FILES_PATH = "/api/v1/files"

_FILE_TYPES = (
    "text/*",
    "image/*",
    "audio/*",
    "video/*",
    "application/json",
    "application/pdf",
    "application/xml",
    "application/yaml",
    "application/zip",
    "application/vnd.*",
)


class TlsSettings(Section):
    """The certificate (with its chain) and its key, as PEM files; without them the API speaks plain HTTP."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_API__TLS__")

    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("TLS takes both, cert and key")
        return self


class ServiceSettings(Section):
    """The server itself."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_API__")

    name: str = "management-api"
    version: str = __version__
    log_level: LogLevel = "info"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    agentos_host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("OPMAS_API__AGENTOS_HOST", "AGENTOS_HOST", "AGENTOS_DEFAULT_HOST"),
    )
    agentos_port: int = Field(
        default=7777,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("OPMAS_API__AGENTOS_PORT", "AGENTOS_PORT", "AGENTOS_DEFAULT_PORT"),
    )
    agentos_enabled: bool = Field(
        default=True, validation_alias=AliasChoices("OPMAS_API__AGENTOS_ENABLED", "AGENTOS_ENABLED")
    )
    # How long open requests get to end after SIGTERM, in seconds.
    shutdown_timeout: float = Field(default=3, gt=0, le=60)
    # How many streams of server-sent events may be open; each holds a connection and some 50 KB.
    max_streams: int = Field(default=1000, ge=0, le=100_000)
    tls: TlsSettings = Field(default_factory=TlsSettings)

    def faces(self) -> list[tuple[str, int, str]]:
        """List where to listen, as host, port and the setting of the port: for the management API, then for runs."""
        own = (self.host, self.port, "OPMAS_API__PORT")
        return [own, (self.agentos_host, self.agentos_port, "OPMAS_API__AGENTOS_PORT")][: 1 + self.agentos_enabled]


class RunSettings(Section):
    """Runs, their record, and the files that callers store for them."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_RUNS__")

    # How long an instance may be silent before its runs are taken from it, in seconds; it reports three times as often.
    lease_s: float = Field(default=30, ge=0.5, le=600)
    # Runs that ended so many days ago are forgotten, with their events; 0 keeps them.
    retention_days: int = Field(default=90, ge=0)
    # Of one upload.
    file_max_bytes: int = Field(default=20 << 20, ge=1)
    # Media types that files may have, as patterns.
    file_types: tuple[str, ...] = _FILE_TYPES


class ApiSettings(Settings):
    """Everything the management API is told."""

    service: ServiceSettings = Field(default_factory=ServiceSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    rate_limit: RateLimitSettings = Field(default_factory=RateLimitSettings)
    runs: RunSettings = Field(default_factory=RunSettings)

    @model_validator(mode="after")
    def _keep_strangers_out(self) -> Self:
        service = self.service
        hosts = [service.host, *([service.agentos_host] if service.agentos_enabled else [])]
        if self.auth.mode == "none" and (reachable := [host for host in hosts if not is_loopback(host)]):
            raise ValueError(f"auth.mode none lets everybody in who can reach {reachable[0]}; it is for 127.0.0.1 only")
        return self

    def body_limit(self, path: str) -> int:
        """Tell how many bytes the body of a request to `path` may have."""
        if path.rstrip("/") == FILES_PATH:
            return self.runs.file_max_bytes + _FORM_BYTES
        return _MAX_RUN_BYTES if _RUNS_PATH.match(path) else MAX_BODY_BYTES

    @property
    def nats_url(self) -> str:
        """The NATS server: the one named, else the embedded one of this machine."""
        return self.nats.url or f"nats://127.0.0.1:{self.nats.port}"

    @property
    def database_url(self) -> str:
        """The database named, else SQLite in the data directory: a file of the API's own."""
        return self.database.url or f"sqlite:///{self.home / 'api.db'}"

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
