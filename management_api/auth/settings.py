"""How callers are known and how much they may ask: the sections `auth`, with `jwt` below it, and `rate_limit`."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

import limits
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from management_api.auth.scopes import Role
from opmas.settings import Section

# What a workspace may be called; it becomes part of keys and names elsewhere.
WORKSPACE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"

# As many bytes as HS256 hashes to: with fewer, the secret and not the hash is what one guesses.
_SECRET_BYTES = 32


class JwtSettings(Section):
    """JWTs of another issuer: signed with a secret that we share, or with a key from the issuer's key set (JWKS)."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_AUTH__JWT__")

    secret: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("OPMAS_AUTH__JWT__SECRET", "JWT_SECRET")
    )
    secret_file: Path | None = None
    jwks_url: str = ""
    jwks_file: Path | None = None
    algorithm: Literal["HS256", "RS256", "ES256"] | None = None
    issuer: str = ""
    audience: str = ""
    leeway: float = Field(default=10, ge=0, le=300)
    # Of a token that names no role; the tokens that are there today name none.
    default_role: Role = "user"

    @property
    def enabled(self) -> bool:
        """Whether there is anything to check a JWT with."""
        return bool(self.shared_secret() or self.has_key_set)

    @property
    def has_key_set(self) -> bool:
        """Whether keys come from a JWKS."""
        return bool(self.jwks_url or self.jwks_file)

    @property
    def pinned(self) -> Literal["HS256", "RS256", "ES256"]:
        """The one algorithm that is accepted, whatever a token says of itself."""
        return self.algorithm or ("RS256" if self.has_key_set else "HS256")

    def shared_secret(self) -> bytes:
        """Return the HS256 key; empty when there is none."""
        if self.secret_file is not None:
            return self.secret_file.read_bytes().strip()
        return self.secret.get_secret_value().encode()

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            secret = self.shared_secret()
        except OSError as error:
            raise ValueError(f"cannot read secret_file {self.secret_file}: {error.strerror}") from None
        if (secret or self.secret_file) and len(secret) < _SECRET_BYTES:
            raise ValueError(
                f"the secret (JWT_SECRET, or secret_file) has {len(secret)} bytes and needs {_SECRET_BYTES} or more: "
                "make one with `openssl rand -base64 48`"
            )
        if sum(map(bool, (secret, self.jwks_url, self.jwks_file))) > 1:
            raise ValueError("set one of secret (JWT_SECRET), secret_file, jwks_url and jwks_file, not several")
        if self.enabled and self.has_key_set is (self.pinned == "HS256"):
            kind = "a key set" if self.has_key_set else "a secret"
            raise ValueError(f"algorithm {self.pinned} does not go with {kind}: HS256 takes a secret, the others keys")
        return self

    @field_validator("jwks_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        # Who can answer in the issuer's place can let anybody in.
        if url and not url.startswith(("https://", "http://127.0.0.1:", "http://[::1]:", "http://localhost:")):
            raise ValueError("jwks_url must begin with https://, unless it is on this machine")
        return url


class AuthSettings(Section):
    """Who is let in. `mode: none` lets in whoever can reach the port, which must then be on this machine only."""

    model_config = SettingsConfigDict(env_prefix="OPMAS_AUTH__")

    mode: Literal["token", "none"] = "token"
    # Of callers whose token or key names none.
    workspace: str = Field(default="default", pattern=WORKSPACE_PATTERN)
    jwt: JwtSettings = Field(default_factory=JwtSettings)


class RateLimitSettings(Section):
    """How many requests are answered, as `NUMBER/UNIT` (`600/minute`); empty means any number.

    Counted by each API process for itself. The local admin token is not counted: it belongs to the machine's owner.
    """

    model_config = SettingsConfigDict(env_prefix="OPMAS_RATE_LIMIT__")

    per_key: str = "600/minute"
    per_workspace: str = "3000/minute"

    @field_validator("per_key", "per_workspace")
    @classmethod
    def _check(cls, text: str) -> str:
        if text:
            limits.parse(text)
        return text


def is_loopback(host: str) -> bool:
    """Say whether `host`, a name or an address, is this machine and no other can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
