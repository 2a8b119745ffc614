"""The keys of a JWT issuer, from its key set (JWKS): kept, and fetched again when a token names one that is not there.

A refresh happens at most once in ten seconds, however many tokens with invented key ids arrive. When the issuer is
away, the keys at hand go on counting.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import httpx2
import jwt
import structlog

from opmas.wire.errors import OpmasError

_FETCH_S = 5.0
_MIN_INTERVAL_S = 10.0
# A key that the issuer has withdrawn stops counting after so long.
_MAX_AGE_S = 300.0
_MAX_BYTES = 1 << 20

_KINDS = {"RS256": "RSA", "ES256": "EC"}

logger = structlog.get_logger(__name__)

Fetch = Callable[[], Awaitable[bytes]]


class KeySetUnavailable(OpmasError):
    """No key of the issuer is known, and its key set cannot be had now."""

    code, status = "key_set_unavailable", 503


class KeySet:
    """An issuer's keys for one algorithm; anything else in the set is passed over."""

    def __init__(self, fetch: Fetch, algorithm: str, *, min_interval_s: float = _MIN_INTERVAL_S) -> None:
        self._fetch = fetch
        self._algorithm = algorithm
        self._min_interval_s = min_interval_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._lock = asyncio.Lock()
        self._tried = self._fetched = -float("inf")

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key of this id; without one, the set's only key. Raises `KeySetUnavailable` if it has none."""
        if time.monotonic() - self._fetched > _MAX_AGE_S and not (self._keys and self._lock.locked()):
            await self._refresh()
        if key_id is not None and key_id not in self._keys:
            await self._refresh()
        if not self._keys:
            raise KeySetUnavailable(
                "cannot check the token: the issuer's key set cannot be had", "see auth.jwt.jwks_url and the API's log"
            )
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        async with self._lock:
            now = time.monotonic()
            if now - self._tried < self._min_interval_s:
                return
            self._tried = now
            try:
                async with asyncio.timeout(_FETCH_S):
                    self._keys = read_keys(await self._fetch(), self._algorithm)
                self._fetched = now
            except (OSError, httpx2.HTTPError, ValueError) as error:
                reason = str(error) or type(error).__name__
                logger.warning("key set not fetched", reason=reason, keys_at_hand=len(self._keys))


def read_keys(document: bytes, algorithm: str) -> dict[str, jwt.PyJWK]:
    """Take out of a key set what signs with `algorithm`, by key id. Raises ValueError when it is no key set."""
    try:
        entries = json.loads(document)["keys"]
        usable = [
            entry
            for entry in entries
            if entry.get("kty") == _KINDS[algorithm]
            and entry.get("use", "sig") == "sig"
            and entry.get("alg", algorithm) == algorithm
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no key set: {type(error).__name__}") from error
    found = {}
    for entry in usable:
        try:
            found[str(entry.get("kid", ""))] = jwt.PyJWK(entry, algorithm)
        except jwt.PyJWTError as error:
            logger.warning("key passed over", key_id=str(entry.get("kid"))[:80], reason=type(error).__name__)
    return found


def from_url(url: str) -> Fetch:
    """Fetch the key set from its address, which may not send us elsewhere."""

    async def fetch() -> bytes:
        async with (
            httpx2.AsyncClient(follow_redirects=False, timeout=_FETCH_S) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
        ):
            if not answer.is_success:
                raise ValueError(f"the issuer answered {answer.status_code}")
            pieces = answer.aiter_bytes()
            assert isinstance(pieces, AsyncGenerator)  # noqa: S101 - narrows the type, which promises less
            return await _limited(pieces)

    return fetch


async def _limited(pieces: AsyncGenerator[bytes, None]) -> bytes:
    content = b""
    async with aclosing(pieces):
        async for piece in pieces:
            content += piece
            if len(content) > _MAX_BYTES:
                raise ValueError("the key set has more than 1 MB")
    return content


def from_file(path: Path) -> Fetch:
    """Read the key set from a file, which may be replaced at any time."""

    async def fetch() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return fetch
