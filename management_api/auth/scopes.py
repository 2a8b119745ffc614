"""What a caller may do: scopes, one for each kind of act, and the roles that bundle them.

Routes ask for scopes and know no roles. A route of another kind adds its scope here, and to the roles that get it.
"""

from collections.abc import Iterable
from typing import Literal, get_args

Scope = Literal[
    "agents:read",  # lists, one agent, its status, metrics, logs and why
    "agents:control",  # start, stop, restart, scale, enable, disable
    "agents:write",  # register, change, delete
    "packages:read",
    "events:read",
    "audit:read",
    "system:read",  # nodes, versions, settings
    "metrics:read",  # Prometheus
    "runs:read",
    "runs:write",
    "tokens:write",  # API keys, their list included
]
Role = Literal["admin", "operator", "user", "viewer"]

SCOPES: frozenset[Scope] = frozenset(get_args(Scope))

_VIEWER: frozenset[Scope] = frozenset({"agents:read", "packages:read", "events:read", "runs:read"})
_USER: frozenset[Scope] = _VIEWER | {"runs:write"}
_OPERATOR: frozenset[Scope] = _USER | {"agents:control", "agents:write", "audit:read", "system:read", "metrics:read"}

BUNDLES: dict[Role, frozenset[Scope]] = {
    "admin": SCOPES,
    "operator": _OPERATOR,
    "user": _USER,
    "viewer": _VIEWER,
}


def bundled(roles: Iterable[str], named: Iterable[str] = ()) -> frozenset[Scope]:
    """Return the scopes of `roles`, and those `named` besides; other issuers' words for either are passed over."""
    scopes: set[Scope] = {scope for scope in SCOPES if scope in set(named)}
    for role in set(roles):
        scopes |= BUNDLES.get(role, frozenset())  # type: ignore[call-overload]  # any word may be asked for
    return frozenset(scopes)
