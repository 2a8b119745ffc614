"""Mint NATS users: a key pair and a signed JWT for one client, in the `.creds` format every NATS client reads.

The id's regex is the boundary here: a user named `*` would match everyone's subjects in the role's template. Where the
file goes, when it is renewed and how a user is put out is `sources`' business.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import JsonValue

from agent_manager.nats import claims
from agent_manager.nats.keypair import USER, KeyPair
from agent_manager.nats.keys import Keys
from agent_manager.nats.roles import TEMPLATES, Role
from opmas.wire.errors import InvalidRequest, PermissionDenied
from opmas.wire.ids import AGENT_ID_PATTERN, is_agent_id

CREDENTIAL_LIFE_S = 24 * 3600.0  # a stolen file is worthless the day after; renewed at half of it

_NAME = re.compile(AGENT_ID_PATTERN.removesuffix("$") + r"\Z")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,72}\Z")  # an agent's id, `-` and an ordinal
_SUBJECT = re.compile(r"(?!>)[\w/=+@:*>-]+(\.[\w/=+@:*>-]+)*\Z", re.ASCII)
_PART = re.compile(r"-----BEGIN [A-Z ]+-----\n(\S+)\n-+END")
_RESERVED = frozenset({"agent", "run", "opmas"})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user is to be: its role, its name (an agent's id), for agents the instance and the manifest's subjects.

    `life_s` is for credentials that nobody renews; the others live as long as their mint says.
    """

    role: Role
    name: str
    instance_id: str = ""
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    life_s: float | None = None

    @property
    def inbox_prefix(self) -> str:
        """The only subjects under which this user may receive replies."""
        if self.role in {Role.OPERATOR, Role.VIEWER}:
            return "_INBOX"  # what the stock `nats` tool uses; it has no variable to say otherwise
        if self.role.is_agent:
            return f"_INBOX.agent.{self.instance_id}"
        return f"_INBOX.{self.role}.{self.name}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """One minted user: `text` is the content of its `.creds` file, `user` its public key, times in unix seconds."""

    text: str = field(repr=False)
    user: str
    expires_at: float
    renew_at: float


class Mint:
    """Makes users of one account, each role signed by its own key.

    `scoped` keys carry their role's template in the account's JWT, and the server refuses any token that brings
    permissions along; with an unscoped key (an account on someone's own server) each token carries its permissions.
    """

    def __init__(
        self,
        account: str,
        signers: Mapping[Role, KeyPair],
        *,
        scoped: bool = True,
        life_s: float = CREDENTIAL_LIFE_S,
    ) -> None:
        self._account = account
        self._signers = signers
        self._scoped = scoped
        self._life_s = life_s

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """Make the mint of an embedded server."""
        return cls(keys.account.public, keys.signers)

    def mint(self, grant: Grant, *, seed: str | None = None) -> Credentials:
        """Sign a user; `seed` renews an existing one. Raises InvalidRequest or PermissionDenied, see `check`."""
        check(grant)
        user = KeyPair(seed) if seed else KeyPair.new(USER)
        key = user.public
        tags = {"instance": (grant.instance_id,), "pub": grant.publish, "sub": grant.subscribe}
        about: dict[str, JsonValue] = {
            "type": "user",
            "issuer_account": self._account,
            "tags": [f"{tag}:{value}" for tag, values in tags.items() for value in values if value],
        }
        if not self._scoped:
            about |= TEMPLATES[grant.role].filled(grant.name, tags).claims()
        now = time.time()
        life_s = grant.life_s or self._life_s
        expires_at = int(now + life_s)
        token = claims.encode(self._signers[grant.role], key, grant.name, about, expires_at=expires_at)
        return Credentials(creds_text(token, user), key, expires_at, renew_at=now + life_s / 2)


def check(grant: Grant) -> None:
    """Refuse a name or subject that would reach beyond its own."""
    valid = is_agent_id(grant.name) if grant.role.is_agent else _NAME.match(grant.name)
    if not valid:
        raise InvalidRequest(
            f"cannot make credentials: {grant.name!r} may not name a NATS user", f"use a name like {AGENT_ID_PATTERN}"
        )
    if grant.role.is_agent and not _INSTANCE.match(grant.instance_id):
        raise InvalidRequest(f"cannot make credentials: {grant.instance_id!r} is not the id of an instance")
    for subject in (*grant.publish, *grant.subscribe):
        if not grantable(subject):
            raise PermissionDenied(
                f"cannot grant {grant.name!r} the subject {subject!r}: malformed, or among OPMAS's own subjects",
                "grant subjects whose first token is a plain word other than agent, run and opmas",
            )


def grantable(subject: str) -> bool:
    """Say whether a manifest may ask for `subject`: well-formed, and no match for OPMAS's, NATS's or inbox subjects."""
    tokens = subject.split(".")
    if not _SUBJECT.match(subject) or ">" in tokens[:-1]:
        return False
    if any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens):
        return False
    return tokens[0] not in _RESERVED and "*" not in tokens[0] and not tokens[0].startswith(("_", "$"))


def creds_text(token: str, user: KeyPair) -> str:
    """Write a JWT and its user's seed in the `.creds` format."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "The seed below is a secret: whoever has it is this user.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )


def parse_creds(text: str) -> tuple[str, str]:
    """Take the JWT and the seed out of a `.creds` file's content; raises ValueError when they are not there."""
    parts = _PART.findall(text)
    if len(parts) != 2:
        raise ValueError("cannot read the credentials: not a NATS .creds file")
    return parts[0], parts[1]
