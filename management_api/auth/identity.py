"""Who calls: what the `Authorization` header proves, and the workspace that the caller acts for.

Three kinds of bearers: the local admin token, API keys (`opk_…`) and, where an issuer is configured, JWTs. Only keys
need the database.
"""

import hmac
import re
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from management_api.auth.door import Unauthenticated
from management_api.auth.jwts import JwtVerifier
from management_api.auth.keys import KeyRing, is_key
from management_api.auth.principal import Principal
from management_api.auth.scopes import SCOPES
from management_api.auth.settings import WORKSPACE_PATTERN, AuthSettings, is_loopback
from opmas.wire.errors import PermissionDenied

WORKSPACE_HEADER = "x-workspace-id"

_WORKSPACE = re.compile(WORKSPACE_PATTERN.removesuffix("$") + r"\Z")
_HINT = (
    "send 'Authorization: Bearer TOKEN' (a shell: set OPMAS_TOKEN); where `opmas up` was started, or with its "
    "OPMAS_HOME, `opmas token` prints the admin token"
)
_ADMIN = Principal("admin", "", frozenset({"admin"}), SCOPES, "admin", limited=False)


class Identification:
    """Knows every kind of credentials."""

    def __init__(self, settings: AuthSettings, admin_token: str, keys: KeyRing) -> None:
        self._settings = settings
        self._admin_token = admin_token.encode()
        self._keys = keys
        self._jwts = JwtVerifier(settings.jwt) if settings.jwt.enabled else None

    async def __call__(self, headers: Headers) -> Principal:
        """Return the caller of a request."""
        if self._settings.mode == "none":
            _refuse_other_sites(headers)
            return self._placed(_ADMIN, headers)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("cannot let you in: there is no bearer token", _HINT)
        return self._placed(await self._bearer(token.strip()), headers)

    async def _bearer(self, token: str) -> Principal:
        if is_key(token):
            return await self._keys.caller(token)
        if hmac.compare_digest(token.encode(), self._admin_token):
            return _ADMIN
        if self._jwts is not None and token.count(".") == 2:
            return await self._jwts.caller(token)
        raise Unauthenticated("cannot let you in: the bearer token is wrong", _HINT)

    def _placed(self, caller: Principal, headers: Headers) -> Principal:
        """Settle the workspace: the credentials' own, which the header may repeat; it chooses for those without."""
        chosen = headers.get(WORKSPACE_HEADER, "")
        if not caller.workspace and caller.is_admin:
            workspace, everywhere = chosen or self._settings.workspace, not chosen
        else:
            workspace, everywhere = caller.workspace or self._settings.workspace, False
        if not _WORKSPACE.match(workspace) or (chosen and chosen != workspace):
            raise PermissionDenied(
                f"cannot act for workspace {(chosen or workspace)[:80]!r}: these credentials are for another",
                f"leave {WORKSPACE_HEADER} out, or send the workspace of the credentials",
            )
        return replace(caller, workspace=workspace, everywhere=everywhere)


def _refuse_other_sites(headers: Headers) -> None:
    """Without tokens, the browser of this machine is a way in for any page it shows, by name or by address."""
    if not _is_own(headers.get("host", ""), headers.get("origin", "")):
        raise PermissionDenied(
            "cannot let another site's page in: authentication is off",
            "call http://127.0.0.1 directly, or set auth.mode to token",
        )


def _is_own(host: str, origin: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "") and (not origin or urlsplit(origin).netloc == host)
    except ValueError:  # an address with half its brackets
        return False
