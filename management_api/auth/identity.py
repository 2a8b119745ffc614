"""Who calls: what the `Authorization` header proves, and the workspace that the caller acts for."""

import hmac

from starlette.datastructures import Headers

from management_api.auth.door import Unauthenticated
from management_api.auth.principal import Principal
from management_api.auth.scopes import SCOPES

WORKSPACE_HEADER = "x-workspace-id"

_HINT = "send 'Authorization: Bearer TOKEN'; `opmas token` prints the admin token"


class Identification:
    """Knows the admin token."""

    def __init__(self, admin_token: str) -> None:
        self._admin_token = admin_token.encode()

    async def __call__(self, headers: Headers) -> Principal:
        """Return the caller of a request."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._admin_token):
            raise Unauthenticated("cannot let you in: the bearer token is missing or wrong", _HINT)
        chosen = headers.get(WORKSPACE_HEADER, "")
        return Principal("admin", chosen or "default", frozenset({"admin"}), SCOPES, "admin", everywhere=not chosen)
