"""Callers with a JWT: whether it is genuine and for us, and what its claims say of its bearer.

The algorithm is ours to choose, never the token's; a token without an end (`exp`) or a subject (`sub`) is refused.
"""

import time
from collections.abc import Mapping
from typing import Any

import jwt

from management_api.auth.door import Unauthenticated
from management_api.auth.jwks import KeySet, from_file, from_url
from management_api.auth.principal import Principal
from management_api.auth.scopes import BUNDLES, bundled
from management_api.auth.settings import JwtSettings

# No honest token is longer; reading one costs time before anything is proved.
_MAX_LENGTH = 8192
_MAX_SUBJECT = 256

_HINT = "get a new token from its issuer; `opmas token` prints the local admin token"


class JwtVerifier:
    """Checks tokens against the settings."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._secret = settings.shared_secret()
        self._keys: KeySet | None = None
        if settings.has_key_set:
            fetch = from_file(settings.jwks_file) if settings.jwks_file else from_url(settings.jwks_url)
            self._keys = KeySet(fetch, settings.pinned)

    async def caller(self, token: str) -> Principal:
        """Return the bearer, the workspace being empty if no claim names one.

        Raises `Unauthenticated`, or `KeySetUnavailable` while there is nothing to check the token with.
        """
        if len(token) > _MAX_LENGTH:
            raise _refused("it is too long")
        try:
            return self._principal(self._verified(token, await self._key(token)))
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _refused(str(error) or type(error).__name__) from error

    async def _key(self, token: str) -> jwt.PyJWK | bytes:
        if self._keys is None:
            return self._secret
        key_id = jwt.get_unverified_header(token).get("kid")
        key = await self._keys.find(key_id)
        if key is None:
            raise _refused("the issuer's key set has no key for it")
        return key

    def _verified(self, token: str, key: jwt.PyJWK | bytes) -> Mapping[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            key,
            algorithms=[settings.pinned],
            issuer=settings.issuer or None,
            audience=settings.audience or None,
            leeway=settings.leeway,
            options={
                "require": ["exp", "sub"],
                "verify_aud": bool(settings.audience),
                "enforce_minimum_key_length": True,
            },
        )

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject = claims["sub"]
        if not subject or len(subject) > _MAX_SUBJECT:
            raise _refused("its subject is empty or too long")
        workspace = claims.get("workspaceId") or claims.get("workspace_id") or ""
        if not isinstance(workspace, str):
            raise _refused("its workspace is no text")
        ends_at = float(claims["exp"]) + self._settings.leeway
        roles = _words(claims.get("roles", claims.get("role"))) & BUNDLES.keys()
        named = _words(claims.get("scopes", claims.get("scope")))
        if not roles and not bundled((), named):
            roles = {self._settings.default_role}
        return Principal(
            subject=subject,
            workspace=workspace,
            roles=frozenset(roles),
            scopes=bundled(roles, named),
            key=f"jwt:{workspace}:{subject}",
            is_person=True,
            is_valid=lambda: time.time() < ends_at,
        )


def _words(claim: object) -> set[str]:
    """Read a list of words, or one text with spaces between them, as issuers use either."""
    if isinstance(claim, str):
        return set(claim.split())
    return {word for word in claim if isinstance(word, str)} if isinstance(claim, list) else set()


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"cannot let you in: the token is not valid: {why}", _HINT)
