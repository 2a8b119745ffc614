"""One API for the tests of this folder, and a peer in the manager's place for each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.api.peer import Peer, serving
from tests.integration.api.server import Server, running
from tests.own_nats import nats_url

__all__ = ["nats_url"]


@pytest.fixture(scope="package")
def api(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the API for all tests of this folder."""
    with running(Path(tmp_path_factory.mktemp("api")), nats_url) as server:
        yield server


@pytest.fixture
async def peer(nats_url: str) -> AsyncIterator[Peer]:
    """Answer in the manager's place."""
    async with serving(nats_url) as peer:
        yield peer


@pytest.fixture
async def http(api: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """Call the API as the administrator."""
    async with httpx2.AsyncClient(
        base_url=api.url, headers=api.headers, timeout=20, trust_env=False, verify=False
    ) as client:
        yield client
