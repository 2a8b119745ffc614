"""How both servers are configured: environment, then a YAML file, then defaults; and the sections they share.

Each server adds its own `service` section and keeps one settings class. An unknown key, in the file or among the
`OPMAS_*` names, is an error with a suggestion: a setting that is silently ignored is worse than none.
"""

import difflib
import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from opmas.wire.errors import OpmasError

LogLevel = Literal["debug", "info", "warning", "error"]

_PREFIXES = (
    "OPMAS_MANAGER__",
    "OPMAS_PERMISSIONS__",
    "OPMAS_API__",
    "OPMAS_AUTH__",
    "OPMAS_RATE_LIMIT__",
    "OPMAS_RUNS__",
    "OPMAS_NATS__",
    "OPMAS_DATABASE__",
)


class SettingsInvalid(OpmasError):
    """A setting is unknown or has a value that cannot be used."""

    code, status = "settings_invalid", 500


class Section(BaseSettings):
    """One section of a configuration file, every value of which an environment variable can replace."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file, whose values arrive as arguments."""
        return env_settings, init_settings


class NatsSettings(Section):
    """How to reach NATS. An empty `url` means the embedded server of this `OPMAS_HOME`."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_NATS__")

    url: str = Field(default="", validation_alias=AliasChoices("OPMAS_NATS__URL", "NATS_URL"))
    port: int = Field(default=4222, ge=0, le=65535)
    creds: Path | None = Field(default=None, validation_alias=AliasChoices("OPMAS_NATS__CREDS", "NATS_CREDS"))
    user: str = ""
    password: SecretStr = SecretStr("")
    signing_key: Path | None = None
    account: str = ""
    tls: bool = False
    tls_verify: bool = True
    tls_ca: Path | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS with an external server; None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class DatabaseSettings(Section):
    """Where state is kept. An empty `url` means SQLite in `OPMAS_HOME`."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_DATABASE__")

    url: str = Field(default="", validation_alias=AliasChoices("OPMAS_DATABASE__URL", "DATABASE_URL"))
    pool_size: int = Field(default=5, ge=1)
    max_overflow: int = Field(default=10, ge=0)


class Settings(BaseModel):
    """A server's configuration, whole; each server names its own `service` section."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=lambda: Path(os.environ.get("OPMAS_HOME") or ".opmas").absolute())
    nats: NatsSettings = Field(default_factory=NatsSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the file at `path` (a missing file means defaults) and what the environment says above it.

        Raises `SettingsInvalid`, one line per problem, each naming the key or the variable.
        """
        _refuse_unknown_variables(os.environ, cls._variables())
        try:
            return cls.model_validate(_read(path))
        except ValidationError as error:
            raise SettingsInvalid(
                f"cannot use the settings{f' of {path}' if path else ''}:\n{cls._explain(error)}",
                "see the comments in the files under config/",
            ) from None

    @classmethod
    def _variables(cls) -> set[str]:
        ahead, names = list(_sections(cls).values()), set[str]()
        while ahead:
            kind = ahead.pop()
            inner = _sections(kind)
            ahead += inner.values()
            prefix = kind.model_config.get("env_prefix")
            names |= {f"{prefix}{field}".upper() for field in kind.model_fields if field not in inner}
        return names

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        lines = []
        for problem in error.errors(include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            text = f"  {where}: {problem['msg']}"
            if problem["type"] == "extra_forbidden":
                section: type[BaseModel] | None = cls
                for part in problem["loc"][:-1]:
                    section = _sections(section).get(str(part)) if section is not None else None
                known = section.model_fields if section is not None else ()
                text = f"  {where}: unknown key{_suggest(str(problem['loc'][-1]), known)}"
            lines.append(text)
        return "\n".join(lines)


def _sections(model: type[BaseModel]) -> dict[str, type[Section]]:
    annotations = {name: field.annotation for name, field in model.model_fields.items()}
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _read(path: Path | None) -> dict[str, Any]:
    if path is None or not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"cannot read {path}: {error}", "mend the YAML, or remove the file") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsInvalid(f"cannot read {path}: it must be a mapping of sections", "see the files under config/")
    return {key: {} if value is None else value for key, value in content.items()}


def _refuse_unknown_variables(environ: Mapping[str, str], known: set[str]) -> None:
    # A server sees the other's names too; only those of its own sections can be judged.
    prefixes = tuple({prefix for prefix in _PREFIXES for name in known if name.startswith(prefix)})
    for name in environ:
        if name.startswith(prefixes) and name.upper() not in known:
            raise SettingsInvalid(f"unknown setting {name}{_suggest(name, known)}", "unset it, or mend its name")


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
