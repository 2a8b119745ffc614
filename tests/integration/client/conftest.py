"""The client against a server that plays its bad days; pauses are recorded, not slept."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from stamina.instrumentation import set_on_retry_hooks

from opmas.client import OpmasClient
from tests.integration.client.rehearsed import Rehearsed


@pytest.fixture
async def server() -> AsyncIterator[Rehearsed]:
    rehearsed = Rehearsed()
    async with await asyncio.start_server(rehearsed.serve, "127.0.0.1", 0) as listening:
        rehearsed.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield rehearsed
        async with asyncio.timeout(5):
            while rehearsed.under_way:  # noqa: ASYNC110 - a client's leaving arrives when it does
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)  # the last task is over, but for its end


@pytest.fixture
async def client(server: Rehearsed, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpmasClient]:
    for name in ("OPMAS_URL", "OPMAS_TOKEN", "AGENTOS_URL", "AGENTOS_TIMEOUT_MS", "AGENTOS_RETRY_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    async with OpmasClient(server.url, "secret-token", timeout_s=5) as client:
        yield client


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses of whoever sleeps: listed, and over at once."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def nap(delay: float) -> None:
        taken.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", nap)
    return taken


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_on_retry_hooks([])
