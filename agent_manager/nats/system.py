"""The embedded server's system account: close users' connections, publish new account claims.

One connection, made at first use. When the server is down the caller hears so within seconds: its connections are
closed anyway, and revocations are on disk for its next start.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from agent_manager.nats import claims
from agent_manager.nats.account import revoke
from agent_manager.nats.files import write_private
from agent_manager.nats.keypair import USER, KeyPair
from agent_manager.nats.keys import Keys, seeds_path
from agent_manager.nats.minting import creds_text
from opmas.bus import Bus
from opmas.wire.errors import OpmasError

_DEADLINE_S = 2.0
# Without these three a user may send nothing at all.
_USER: dict[str, JsonValue] = {"type": "user", "subs": -1, "data": -1, "payload": -1}


class NatsRefused(OpmasError):
    """The embedded server did not do what its system account asked."""

    code = "nats_refused"


class SystemAccount:
    """Asks the server for what only its system account may do; close it when done."""

    def __init__(self, url: str, home: Path, keys: Keys) -> None:
        self._url = url
        self._home = home
        self._keys = keys
        self._bus: Bus | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._bus is not None:
            await self._bus.close()

    async def kick(self, user: str) -> int:
        """Close the connections of the user with this public key; say how many. It may return if its JWT is valid."""
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
            raise NatsRefused(f"cannot revoke {user}: nats-server says {answer}")

    async def _ask(self, subject: str, payload: bytes) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                bus = await self._connected()
                answer = await bus.request(subject, payload, _DEADLINE_S)
        except (OpmasError, TimeoutError) as error:
            raise NatsRefused(f"cannot ask the embedded nats-server for {subject}: {error or 'no answer'}") from error
        found = json.loads(answer.data)
        if not isinstance(found, dict) or "error" in found:
            raise NatsRefused(f"nats-server refused {subject}: {found}")
        return found

    async def _connected(self) -> Bus:
        async with self._lock:
            if self._bus is None:
                creds = seeds_path(self._home).with_name("system.creds")
                await asyncio.to_thread(write_private, creds, self._credentials())
                self._bus = await Bus.connect(self._url, name="opmas-system", creds=creds, timeout_s=_DEADLINE_S)
            return self._bus

    def _credentials(self) -> str:
        # Without an end: whoever reads this file could read the account's own seed beside it.
        user = KeyPair.new(USER)
        return creds_text(claims.encode(self._keys.system, user.public, "opmas", _USER), user)
