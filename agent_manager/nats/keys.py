"""The embedded server's identity: operator, accounts and one signing key for each role, made at the first start.

All seeds lie in one 0600 file, so that there is never half a set. Who has this file is everyone: it stays in OPMAS's
home and no instance may read it. An external server's operator keeps such keys and gives us one signing key at most.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from agent_manager.nats.files import write_private
from agent_manager.nats.keypair import ACCOUNT, OPERATOR, KeyPair
from agent_manager.nats.roles import Role
from opmas.wire.errors import Conflict


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key pair of one embedded server."""

    operator: KeyPair
    system: KeyPair
    account: KeyPair
    signers: dict[Role, KeyPair]

    def role_of(self, issuer: str) -> Role | None:
        """Tell which role's key has the public half `issuer`."""
        return next((role for role, pair in self.signers.items() if pair.public == issuer), None)


def seeds_path(home: Path) -> Path:
    """Say where the seeds lie under `home`."""
    return home / "nats" / "keys" / "seeds.json"


def load(home: Path) -> Keys:
    """Read the keys; raises Conflict when there are none yet or the file is damaged."""
    path = seeds_path(home)
    return _keys(_read(path), path)


def load_or_create(home: Path) -> Keys:
    """Read the keys, and first make those that are missing. Only whoever holds the server's lock may call this."""
    path = seeds_path(home)
    seeds = _read(path) if path.exists() else {}
    missing = {name: _new_seed(name) for name in _names() if name not in seeds}
    if missing:
        seeds |= missing
        write_private(path, json.dumps(seeds, indent=1), durable=True)
    return _keys(seeds, path)


def _read(path: Path) -> dict[str, str]:
    try:
        seeds = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Conflict(f"cannot find the NATS keys {path}", "start the embedded nats-server first: opmas up") from error
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(seeds, dict):
        raise _damaged(path, TypeError("not an object"))
    return seeds


def _damaged(path: Path, error: Exception) -> Conflict:
    return Conflict(
        f"cannot read the NATS keys {path}: {error}",
        f"restore the file, or delete {path.parent.parent} to begin with new keys (running agents are cut off)",
    )


def _names() -> list[str]:
    return ["operator", "system", "account", *(f"role:{role}" for role in Role)]


def _new_seed(name: str) -> str:
    return KeyPair.new(OPERATOR if name == "operator" else ACCOUNT).seed


def _keys(seeds: dict[str, str], path: Path) -> Keys:
    try:
        pairs = {name: KeyPair(seeds[name]) for name in _names()}
    except (ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error
    return Keys(
        operator=pairs["operator"],
        system=pairs["system"],
        account=pairs["account"],
        signers={role: pairs[f"role:{role}"] for role in Role},
    )
