"""A manager's stand-in, a run service on SQLite and a worker, all for one agent that no other test has."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.api.peer import Peer, agent, serving
from tests.integration.runs.service import Service, serving_runs
from tests.integration.runs.worker import Worker, working
from tests.own_nats import nats_url

__all__ = ["nats_url"]

_ids = (f"runner-{number}" for number in itertools.count())


@pytest.fixture
def agent_id() -> str:
    return next(_ids)


@pytest.fixture
async def peer(nats_url: str, agent_id: str) -> AsyncIterator[Peer]:
    """Answer in the manager's place: the agent is there."""
    async with serving(nats_url) as peer:
        peer.known = {agent_id: agent(agent_id)}
        yield peer


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'api.db'}"


@pytest.fixture
async def service(sqlite_url: str, nats_url: str, agent_id: str, peer: Peer) -> AsyncIterator[Service]:
    async with serving_runs(sqlite_url, nats_url, agent_id) as service:
        yield service


@pytest.fixture
async def worker(nats_url: str, agent_id: str) -> AsyncIterator[Worker]:
    async with working(nats_url, agent_id) as worker:
        yield worker
