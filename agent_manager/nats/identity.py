"""Who published a command or query, as nats-server says.

The header is nats-server's own only on what came through an identified subject of the embedded server; on any other
message a client can have written it. What has no publisher the server vouches for must not be obeyed: nats-server's own
streams can be made to deliver stored bytes to these subjects, and then there is none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent_manager.nats.roles import Role
from opmas.wire import subjects

_COMMANDERS = frozenset({Role.MANAGER, Role.API, Role.OPERATOR})
_CALLER_LENGTH = 200
_IDENTIFIED = frozenset({subjects.IDENTIFIED_COMMAND, subjects.IDENTIFIED_QUERY})


@dataclass(frozen=True, slots=True)
class Publisher:
    """A NATS user: its role, its name (an agent's id, `cli`, …) and its public key. `str()` is for the audit.

    The API says for whom it speaks: `caller` is the subject of an HTTP request, with its workspace.
    """

    role: Role
    name: str
    user: str
    caller: str = ""

    def __str__(self) -> str:
        return f"{self.role}:{self.caller or self.name}"

    @property
    def may_command(self) -> bool:
        """Whether this user is one that commands managers; viewers only ask, and instances of agents do neither."""
        return self.role in _COMMANDERS


def publisher_of(
    subject: str, headers: Mapping[str, str] | None, role_of: Callable[[str], Role | None]
) -> Publisher | None:
    """Read the publisher of a message received on `subject`; None when nats-server vouches for nobody.

    `role_of` tells the role whose signing key issued the user: names alone do not, an agent may be called `cli`.
    """
    if subject not in _IDENTIFIED or not headers:
        return None
    try:
        info = json.loads(headers[subjects.CLIENT_INFO_HEADER])
        role = role_of(info["issuer_key"])
        caller = headers.get(subjects.CALLER_HEADER, "") if role is Role.API else ""
        return Publisher(role, info["name_tag"], info["user"], caller[:_CALLER_LENGTH]) if role else None
    except (KeyError, ValueError, TypeError):
        return None
