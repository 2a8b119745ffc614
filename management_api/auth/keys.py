"""API keys: made here, shown once, known ever after by their hash.

A plain SHA-256 is right for them: they carry 256 bits from the system's random source, so that no search through
likely ones exists, which is what slow password hashes are for; and a key is checked with every request.
"""

import asyncio
import hashlib
import re
import secrets
from dataclasses import replace
from datetime import datetime

import structlog

from management_api.auth.door import Unauthenticated
from management_api.auth.principal import Principal
from management_api.auth.scopes import bundled
from management_api.store import ApiStore, KeyRow
from opmas.wire.errors import OpmasError
from opmas.wire.messages import now

_PREFIX = "opk_"
_KEY = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}\Z")
_LOOK_S = 10.0

logger = structlog.get_logger(__name__)


def is_key(token: str) -> bool:
    """Say whether `token` has the form of an API key."""
    return _KEY.match(token) is not None


def new_key() -> tuple[str, str, str]:
    """Make a key; returns its id, the key itself and its hash."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return f"k{secrets.token_hex(6)}", key, hash_of(key)


def hash_of(key: str) -> str:
    """Hash a key as it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """Knows callers by their keys, and remembers when each was last used: written in one go every ten seconds.

    As often it asks which keys were revoked, here or at another API: those end the streams they opened.
    """

    def __init__(self, store: ApiStore) -> None:
        self._store = store
        self._used: dict[str, datetime] = {}
        self._revoked: frozenset[str] = frozenset()

    async def caller(self, key: str) -> Principal:
        """Return the bearer of a key; raises `Unauthenticated`, or `DatabaseUnavailable`."""
        # Asked of the database each time, so that a key revoked anywhere is worthless everywhere at once.
        row = await self._store.key_by_hash(hash_of(key))
        if row is None or row.revoked_at is not None:
            raise _refused("is unknown or was revoked")
        if row.expires_at is not None and row.expires_at <= now():
            raise _refused("has expired")
        self._used[row.id] = now()
        return replace(principal_of(row), is_valid=lambda: self._holds(row))

    def _holds(self, row: KeyRow) -> bool:
        return row.id not in self._revoked and (row.expires_at is None or row.expires_at > now())

    async def keep_up(self) -> None:
        """For ever, write down when keys were used and learn which were revoked."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.flush()
            try:
                self._revoked = frozenset(await self._store.revoked_keys())
            except OpmasError as error:
                logger.warning("revoked keys not read", reason=error.message)

    async def flush(self) -> None:
        """Write down when keys were used; what the database does not take is kept for the next time."""
        used, self._used = self._used, {}
        try:
            if used:
                await self._store.mark_used(used)
        except OpmasError as error:
            self._used = used | self._used
            logger.warning("last use of keys not written", reason=error.message)


def principal_of(row: KeyRow) -> Principal:
    """Shape the bearer of a key."""
    return Principal(
        subject=f"key:{row.name}",
        workspace=row.workspace,
        roles=frozenset(row.roles),
        scopes=bundled(row.roles, row.scopes),
        key=row.id,
    )


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"cannot let you in: the API key {why}", "`opmas token create` makes one")
