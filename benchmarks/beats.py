"""Heartbeats as seen from outside: who is ready, and with which pid. The same ears for every side."""

import asyncio
import json
import time
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

import nats
from nats.aio.client import Client


class Beats:
    """Listens on `agent.status`: the first beat of a pid is the moment at which that process is ready."""

    def __init__(self, url: str, creds: str | None = None, inbox: str = "_INBOX") -> None:
        self.url = url
        self._options: dict[str, Any] = {"user_credentials": creds, "inbox_prefix": inbox}
        self._news = asyncio.Condition()
        self.pids: dict[str, int] = {}
        self.client: Client

    async def __aenter__(self) -> Self:
        self.client = await nats.connect(self.url, **self._options)
        await self.client.subscribe("agent.status", cb=self._heard)
        await self.client.flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def _heard(self, msg: Any) -> None:
        beat = json.loads(msg.data)
        pid = beat.get("pid")  # without one it is the status of an agent as a whole
        if pid is None or beat.get("status", "running") != "running" or self.pids.get(beat["agent_id"]) == pid:
            return
        self.pids[beat["agent_id"]] = pid
        async with self._news:
            self._news.notify_all()

    async def all_ready(self, ids: Collection[str], timeout_s: float) -> float:
        """Wait until every one has beaten; return that moment (monotonic)."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self.pids.keys() >= set(ids))
        return time.monotonic()

    async def replaced(self, agent_id: str, pid: int, timeout_s: float) -> float:
        """Wait until the agent beats with another pid; return that moment (monotonic)."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self.pids.get(agent_id) != pid)
        return time.monotonic()
