"""The embedded server's system account: close users' connections, publish new account claims.

One connection, made at first use and again after the server died; it never reconnects by itself, so that nothing waits
for a server that is gone.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client, RawCredentials
from pydantic import JsonValue

from agent_manager.nats import claims
from agent_manager.nats.account import revoke
from agent_manager.nats.keypair import USER, KeyPair
from agent_manager.nats.keys import Keys
from agent_manager.nats.minting import creds_text
from opmas.wire.errors import OpmasError

_DEADLINE_S = 5.0
# Without these three a user may send nothing at all.
_SYSTEM_USER: dict[str, JsonValue] = {"type": "user", "subs": -1, "data": -1, "payload": -1}


class NatsRefused(OpmasError):
    """The embedded server did not do what its system account asked."""

    code = "nats_refused"


class SystemAccount:
    """Asks the server for what only its system account may do; close it when done."""

    def __init__(self, url: str, home: Path, keys: Keys) -> None:
        self._url = url
        self._home = home
        self._keys = keys
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            await self._client.close()

    async def kick(self, user: str) -> int:
        """Close the connections of the user with this public key, say how many; with valid credentials it may return."""
        wanted = {"acc": self._keys.account.public, "user": user, "auth": True}
        answer = await self._ask("$SYS.REQ.SERVER.PING.CONNZ", json.dumps(wanted).encode())
        server = answer["server"]["id"]
        connections = [c["cid"] for c in answer["data"].get("connections") or [] if c.get("authorized_user") == user]
        for cid in connections:
            await self._ask(f"$SYS.REQ.SERVER.{server}.KICK", json.dumps({"cid": cid}).encode())
        return len(connections)

    async def revoke(self, user: str) -> None:
        """Refuse every credential this user has had so far and close its connections, also after a restart."""
        async with self._lock:
            token = await asyncio.to_thread(revoke, self._home, self._keys, user)
        answer = await self._ask("$SYS.REQ.CLAIMS.UPDATE", token.encode())
        if answer.get("data", {}).get("code") != 200:
            raise NatsRefused(f"cannot revoke {user}: nats-server says {answer.get('error', answer)}")

    async def _ask(self, subject: str, payload: bytes) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                client = await self._connected()
                answer = await client.request(subject, payload, timeout=_DEADLINE_S)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise NatsRefused(f"cannot reach the system account of {self._url}: {error!r}") from error
        found = json.loads(answer.data)
        if not isinstance(found, dict) or "error" in found:
            raise NatsRefused(f"nats-server refused {subject}: {found}")
        return found

    async def _connected(self) -> Client:
        async with self._lock:
            if self._client is None or not self._client.is_connected:
                if self._client is not None:
                    await self._client.close()
                user = KeyPair.new(USER)
                token = claims.encode(self._keys.system, user.public, "opmas", _SYSTEM_USER)
                self._client = await nats.connect(
                    self._url,
                    user_credentials=RawCredentials(creds_text(token, user)),
                    allow_reconnect=False,
                    error_cb=_expected,
                    name="opmas-system",
                )
            return self._client


async def _expected(_: Exception) -> None:
    """Ignore that the connection broke: the next use makes a new one, and its caller hears if it cannot."""
