"""An API that believes JWTs, and bearers of every kind and workspace."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from opmas.wire.views import Access, AgentView
from tests.integration.api.peer import Peer, agent, serving
from tests.integration.api.server import Server, running
from tests.own_nats import nats_url

__all__ = ["nats_url"]

SECRET = "a secret of thirty-two bytes, or more"

Call = Callable[..., httpx2.AsyncClient]


def bearer(role: str = "operator", workspace: str | None = "a", **claims: Any) -> dict[str, str]:
    """Make the header of a JWT's bearer."""
    claims = {"sub": "ann", "exp": time.time() + 600, "roles": [role], "workspaceId": workspace} | claims
    return {"Authorization": "Bearer " + jwt.encode({k: v for k, v in claims.items() if v is not None}, SECRET)}


def owned(name: str, *workspaces: str, roles: tuple[str, ...] = ()) -> AgentView:
    """Make an agent that is theirs."""
    return agent(name).model_copy(update={"access": Access(workspaces=workspaces, roles=roles)})


@pytest.fixture(scope="package")
def api(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(
        Path(tmp_path_factory.mktemp("auth")), nats_url, JWT_SECRET=SECRET, OPMAS_AUTH__JWT__LEEWAY="0"
    ) as server:
        yield server


@pytest.fixture
async def peer(nats_url: str) -> AsyncIterator[Peer]:
    """Answer in the manager's place: one agent of workspace a, one of b, one of everybody."""
    async with serving(nats_url) as peer:
        peer.known = {"mine": owned("mine", "a"), "theirs": owned("theirs", "b"), "shared": owned("shared")}
        yield peer


@pytest.fixture
async def http(api: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """Call the API with no credentials but those given."""
    async with httpx2.AsyncClient(base_url=api.url, timeout=30, trust_env=False) as client:
        yield client
