"""Where clients' credentials come from: the embedded server's keys, an external account's signing key, or one shared
login.

The manager uses one interface, `CredentialSource`, and does not know which it has. Deciding when to renew is its
business (`Login.renew_at`), nats-py reads the rewritten file at its next reconnect.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote, urlsplit

from agent_manager.nats import keys
from agent_manager.nats.files import write_private
from agent_manager.nats.identity import Publisher, publisher_of
from agent_manager.nats.keypair import KeyPair
from agent_manager.nats.minting import Grant, Mint, parse_creds
from agent_manager.nats.roles import Role
from agent_manager.nats.system import NatsRefused, SystemAccount
from opmas.wire.errors import InvalidRequest

_SIGNING_KEY_HINT = "give the file of a seed that begins with SA"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Login:
    """What one client needs to connect.

    `user` is the public key of a minted user and empty for a shared login; `expires_at` and `renew_at` are unix
    seconds, None when there is nothing to renew. A shared user name and password also stand in `url`, quoted; nats-py
    does not unquote them, so pass them on beside it.
    """

    url: str = field(repr=False)
    creds: Path | None
    inbox_prefix: str
    user: str = ""
    expires_at: float | None = None
    renew_at: float | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def environment(self) -> dict[str, str]:
        """Return the variables that tell a process how to connect."""
        found = {"NATS_URL": self.url, "NATS_INBOX_PREFIX": self.inbox_prefix}
        if self.creds is not None:
            found["NATS_CREDS"] = str(self.creds)
        if self.username and self.password:
            found |= {"NATS_USER": self.username, "NATS_PASSWORD": self.password}
        return found


class CredentialSource(Protocol):
    """Makes, renews and withdraws logins.

    `identified` says whether commands and queries arrive on `opmas.identified.*` with their publisher; `warning` is to
    be logged once at start when it is not empty.
    """

    url: str
    identified: bool
    warning: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def issue(self, grant: Grant, path: Path) -> Login:
        """Make a new user and write its credentials to `path` (0600)."""
        ...

    async def renew(self, grant: Grant, path: Path) -> Login:
        """Prolong the user whose credentials lie at `path`; without such a file, issue new ones."""
        ...

    async def withdraw(self, login: Login) -> None:
        """Delete the file and close the user's connections: what follows a stop."""
        ...

    async def revoke(self, login: Login) -> None:
        """Put the user out for good: quarantine. Does what `withdraw` does where the server cannot revoke."""
        ...

    def publisher_of(self, subject: str, headers: Mapping[str, str] | None) -> Publisher | None:
        """Tell who published the command or query received on `subject`; None when the server vouches for nobody."""
        ...


class _Source:
    """What the sources below share: nothing to open, nothing the server could do about a user, nobody identified."""

    identified = False
    warning = ""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def withdraw(self, login: Login) -> None:
        """Delete the credentials, if they are this login's own."""
        if login.user and login.creds is not None:
            await asyncio.to_thread(login.creds.unlink, missing_ok=True)

    async def revoke(self, login: Login) -> None:
        """Do what can be done without the server's system account."""
        await self.withdraw(login)

    def publisher_of(self, subject: str, headers: Mapping[str, str] | None) -> Publisher | None:
        """Tell nobody: this server does not vouch for publishers."""
        return None


class _MintedSource(_Source):
    """Logins of users of our own making."""

    def __init__(self, url: str, mint: Mint) -> None:
        super().__init__(url)
        self._mint = mint

    async def issue(self, grant: Grant, path: Path) -> Login:
        """Make a new user and write its credentials to `path` (0600)."""
        return await asyncio.to_thread(self._write, grant, path, None)

    async def renew(self, grant: Grant, path: Path) -> Login:
        """Prolong the user whose credentials lie at `path`; without such a file, issue new ones."""

        def renew() -> Login:
            with suppress(FileNotFoundError, ValueError):
                return self._write(grant, path, parse_creds(path.read_text())[1])
            return self._write(grant, path, None)

        return await asyncio.to_thread(renew)

    def _write(self, grant: Grant, path: Path, seed: str | None) -> Login:
        credentials = self._mint.mint(grant, seed=seed)
        write_private(path, credentials.text)
        return Login(
            url=self.url,
            creds=path,
            inbox_prefix=grant.inbox_prefix,
            user=credentials.user,
            expires_at=credentials.expires_at,
            renew_at=credentials.renew_at,
        )


class EmbeddedSource(_MintedSource):
    """Users of the embedded server whose keys lie under `home`; use it as a context manager."""

    identified = True

    def __init__(self, home: Path, url: str) -> None:
        self._keys = keys.load(home)
        super().__init__(url, Mint.of(self._keys))
        self._system = SystemAccount(url, home, self._keys)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._system.close()

    async def withdraw(self, login: Login) -> None:
        """Delete the credentials and close the user's connections; a server that is down has none to close."""
        await super().withdraw(login)
        if login.user:
            try:
                await self._system.kick(login.user)
            except NatsRefused as error:
                _log.warning("cannot close the connections of a stopped client: %s", error)

    async def revoke(self, login: Login) -> None:
        """Delete the credentials and have the server refuse their user from now on; raises NatsRefused."""
        await _Source.withdraw(self, login)
        if login.user:
            await self._system.revoke(login.user)

    def publisher_of(self, subject: str, headers: Mapping[str, str] | None) -> Publisher | None:
        """Tell who published the command or query received on `subject`."""
        return publisher_of(subject, headers, self._keys.role_of)


class SigningKeySource(_MintedSource):
    """Users of an account on someone's own server, made with the one signing key they gave us.

    An unscoped key makes users of every role. A scoped one must carry `roles.TEMPLATES[Role.AGENT]` and makes agents
    only; the manager and the API then connect with the credentials in `creds`.
    """

    def __init__(
        self, url: str, *, account: str, seed_file: Path, scoped: bool = False, creds: Path | None = None
    ) -> None:
        pair = _signing_key(seed_file)
        if not account.startswith("A") or len(account) != 56:
            raise InvalidRequest(
                f"cannot use nats.account {account!r}: not an account's public key",
                "it begins with A and has 56 characters",
            )
        super().__init__(url, Mint(account, dict.fromkeys(Role, pair), scoped=scoped))
        self._scoped = scoped
        self._creds = creds

    async def issue(self, grant: Grant, path: Path) -> Login:
        """Make a new user; for what is no agent, use `creds` where it is given."""
        if grant.role.is_agent or (self._creds is None and not self._scoped):
            return await super().issue(grant, path)
        if self._creds is None:
            raise InvalidRequest(
                f"cannot make credentials for {grant.role}: the signing key is scoped to agents",
                "set nats.creds as well",
            )
        return Login(url=self.url, creds=self._creds, inbox_prefix=grant.inbox_prefix)

    async def renew(self, grant: Grant, path: Path) -> Login:
        """Prolong a user of ours; `creds` is its owner's to renew."""
        if grant.role.is_agent or self._creds is None:
            return await super().renew(grant, path)
        return await self.issue(grant, path)


class SharedSource(_Source):
    """One login for everybody: a creds file, or user and password. Nothing keeps agents from each other's subjects."""

    def __init__(self, url: str, *, creds: Path | None = None, user: str = "", password: str = "") -> None:
        super().__init__(url)
        self._creds = creds
        self._user, self._password = user or None, password or None
        host = urlsplit(url).hostname
        self.warning = (
            f"every agent shares one NATS user on {host}: any of them can publish and read as any other; "
            "set nats.signing_key and nats.account to give each its own"
        )

    async def issue(self, grant: Grant, path: Path) -> Login:
        """Hand out the one login; nothing is written to `path`."""
        url = with_login(self.url, self._user, self._password) if self._user and self._password else self.url
        prefix = grant.inbox_prefix
        return Login(url, self._creds, prefix, username=self._user, password=self._password)

    async def renew(self, grant: Grant, path: Path) -> Login:
        """Hand out the one login."""
        return await self.issue(grant, path)


def with_login(url: str, user: str, password: str) -> str:
    """Put user and password into a NATS URL, or into each of several separated by commas."""
    parts = [urlsplit(part.strip()) for part in url.split(",")]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    return ",".join(part._replace(netloc=login + part.netloc.rpartition("@")[2]).geturl() for part in parts)


def _signing_key(path: Path) -> KeyPair:
    try:
        pair = KeyPair(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"cannot read nats.signing_key {path}: {error}", _SIGNING_KEY_HINT) from error
    if not pair.public.startswith("A"):
        raise InvalidRequest(f"cannot use nats.signing_key {path}: it is no account's key", _SIGNING_KEY_HINT)
    return pair
