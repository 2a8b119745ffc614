"""The claims the embedded server runs by: its operator, its system account and the one account OPMAS lives in.

The account exports the identified command and query subjects as services to itself and imports them under the names
publishers use. Sharing makes nats-server replace any `Nats-Request-Info` header by the true one, so that every command
carries a publisher nobody can forge (`identity`), without a second account.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from agent_manager.nats import claims
from agent_manager.nats.files import write_private
from agent_manager.nats.keys import Keys
from agent_manager.nats.minting import CREDENTIAL_LIFE_S
from agent_manager.nats.roles import TEMPLATES
from opmas.wire import subjects

_UNLIMITED: dict[str, JsonValue] = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_IDENTIFIED = {subjects.COMMAND: subjects.IDENTIFIED_COMMAND, subjects.QUERY: subjects.IDENTIFIED_QUERY}


@dataclass(frozen=True, slots=True)
class JetStreamLimits:
    """What agents and operators together may store in the embedded server."""

    disk_bytes: int = 10 * 2**30
    memory_bytes: int = 256 * 2**20
    streams: int = 1000
    consumers: int = 10_000

    def claims(self) -> dict[str, JsonValue]:
        """Shape these as an account's limits."""
        return {
            "disk_storage": self.disk_bytes,
            "mem_storage": self.memory_bytes,
            "streams": self.streams,
            "consumer": self.consumers,
        }


def operator_jwt(keys: Keys) -> str:
    """Sign the operator's claims."""
    about: dict[str, JsonValue] = {"type": "operator", "system_account": keys.system.public}
    return claims.encode(keys.operator, keys.operator.public, "opmas", about)


def system_jwt(keys: Keys) -> str:
    """Sign the system account's claims."""
    about: dict[str, JsonValue] = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True}}
    return claims.encode(keys.operator, keys.system.public, "SYS", about)


def renew_account(home: Path, keys: Keys, limits: JetStreamLimits) -> str:
    """Sign the account's claims for a start of the server: roles and limits of today, revocations as they were."""
    account = keys.account.public
    signing_keys: list[JsonValue] = [
        {
            "kind": "user_scope",
            "key": keys.signers[role].public,
            "role": role.value,
            "template": template.claims(),
        }
        for role, template in TEMPLATES.items()
    ]
    about: dict[str, JsonValue] = {
        "type": "account",
        "limits": {**_UNLIMITED, "wildcards": True, **limits.claims()},
        "signing_keys": signing_keys,
        "exports": [{"name": to, "subject": to, "type": "service"} for to in _IDENTIFIED.values()],
        "imports": [
            {"name": to, "subject": to, "account": account, "local_subject": at, "type": "service", "share": True}
            for at, to in _IDENTIFIED.items()
        ],
        "revocations": _living_revocations(_read(home)),
    }
    return _write(home, keys, about)


def revoke(home: Path, keys: Keys, user: str) -> str:
    """Sign the account's claims with one more revocation: every JWT this user was issued until now."""
    about = _read(home)
    return _write(home, keys, about | {"revocations": _living_revocations(about) | {user: int(time.time())}})


def _path(home: Path) -> Path:
    return home / "nats" / "account.jwt"


def _read(home: Path) -> dict[str, JsonValue]:
    path = _path(home)
    if not path.exists():
        return {}
    about: dict[str, JsonValue] = claims.decode(path.read_text())["nats"]
    return about


def _write(home: Path, keys: Keys, about: dict[str, JsonValue]) -> str:
    token = claims.encode(keys.operator, keys.account.public, "OPMAS", about)
    write_private(_path(home), token, durable=True)
    return token


def _living_revocations(about: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Leave out those older than any credential lives: 10,000 entries are more than a message holds."""
    revoked = about.get("revocations")
    oldest = time.time() - CREDENTIAL_LIFE_S
    return (
        {user: at for user, at in revoked.items() if isinstance(at, int) and at >= oldest}
        if isinstance(revoked, dict)
        else {}
    )
