"""Every operation of the OpenAPI document by ids of tenant B and bearers of tenant A, and by roles: no way round.

New operations join by themselves; one that the tests cannot call fails them.
"""

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from fastapi.routing import APIRoute

from management_api.app import create_app
from management_api.auth.door import is_open
from management_api.auth.principal import scope_required
from management_api.auth.scopes import BUNDLES, Role, Scope
from management_api.settings import ApiSettings
from tests.integration.api.peer import Peer
from tests.integration.api.server import Server, running
from tests.integration.auth.conftest import SECRET, bearer
from tests.node import ManagerProcess

# Operations with an id in the body or the query, as they would be called on tenant B's.
_BODIES: dict[str, dict[str, Any]] = {
    "register_agent": {"id": "theirs", "name": "x", "package": "theirs"},
    "update_agent": {"config": {}, "replicas": 2, "access": {"workspaces": ["b"]}},
    "command_agents": {"action": "stop", "agent_ids": ["theirs"]},
    "scale_agent": {"replicas": 2},
    "create_token": {"name": "x", "role": "viewer", "workspace": "b"},
    "invoke_agent": {"message": "x"},
    "decide_confirmation": {"confirmed": True},
    "create_session": {"agentId": "theirs"},
    "rename_session": {"title": "mine"},
    "upload_files": {},
}
_FORMS = {"upload_files": {"file": ("a.txt", b"x", "text/plain")}}
_QUERIES = {"list_events": {"agent": "theirs"}, "list_audit": {"agent": "theirs"}}
_NOBODYS = {
    "agent_id": "theirs",
    "token_id": "k0",
    "run_id": "r0",
    "confirmation_id": "c0",
    "session_id": "s0",
    "file_id": "f0",
}


@dataclass(frozen=True)
class Operation:
    """One operation, and how it is called on what belongs to tenant B."""

    name: str
    method: str
    path: str
    scope: Scope | None

    async def call(self, http: httpx2.AsyncClient, headers: dict[str, str], **ids: str) -> httpx2.Response:
        path = self.path.format(**(_NOBODYS | ids))
        body, form = _BODIES.get(self.name), _FORMS.get(self.name)
        given: dict[str, Any] = {"files": form} if form else {"json": body}
        return await http.request(self.method, path, headers=headers, params=_QUERIES.get(self.name), **given)

    @property
    def names_one(self) -> bool:
        """Whether it is called on one thing of tenant B."""
        return "{" in self.path or self.name in _QUERIES or self.name == "create_session"


def described(path: Path) -> Iterator[Operation]:
    document = create_app(ApiSettings(home=path), "token").openapi()
    for place, methods in document["paths"].items():
        for method, operation in methods.items():
            scopes = [scope for each in operation.get("security", []) for scope in each["bearer"]]
            assert len(scopes) < 2
            assert ("requestBody" in operation) <= (operation["operationId"] in _BODIES), "say how it is called"
            yield Operation(operation["operationId"], method, place, scopes[0] if scopes else None)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    return list(described(tmp_path_factory.mktemp("document")))


def routes(of: Iterable[Any]) -> Iterator[Any]:
    """List routes, those of routers within too, in the document or not."""
    for route in of:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        yield from routes(inner.routes) if hasattr(inner, "routes") and not isinstance(route, APIRoute) else [route]


def test_every_route_asks_for_a_scope_or_is_open_by_name(tmp_path: Path) -> None:
    app = create_app(ApiSettings(home=tmp_path), "token")
    found = list(routes(app.routes))
    assert len(found) > 20

    for route in found:
        calls = [each.call for each in route.dependant.dependencies] if isinstance(route, APIRoute) else []
        assert is_open(route.path) or any(scope_required(call) for call in calls), f"{route.path} asks for no scope"


def dependencies(of: Any) -> Iterator[Any]:
    for inner in of.dependencies:
        yield from (inner, *dependencies(inner))


def test_no_dependency_of_a_route_is_sent_to_a_thread(tmp_path: Path) -> None:
    found = list(routes(create_app(ApiSettings(home=tmp_path), "token").routes))
    asked = [each.call for route in found if isinstance(route, APIRoute) for each in dependencies(route.dependant)]
    assert len(asked) > 20

    functions = [call if inspect.isfunction(call) else type(call).__call__ for call in asked if type(call) is not type]
    plain = {call.__qualname__ for call in functions if not inspect.iscoroutinefunction(call)}

    assert not plain, "a plain function costs a request a thread's turn: make it a coroutine"


def test_no_route_hides_what_it_asks_for(operations: list[Operation]) -> None:
    assert len(operations) > 20
    assert {one.path for one in operations if one.scope is None} == {"/health", "/readyz"}


async def test_without_credentials_nothing_is_answered_but_what_is_open(
    http: httpx2.AsyncClient, peer: Peer, operations: list[Operation]
) -> None:
    for one in operations:
        if one.scope is not None:
            for headers in ({}, {"Authorization": "Bearer " + jwt.encode({"sub": "x"}, "w" * 32)}):
                assert (await one.call(http, headers)).status_code == 401, one
    assert peer.seen == []


@pytest.mark.parametrize("role", BUNDLES)
async def test_a_role_may_call_what_its_scopes_say_and_nothing_else(
    http: httpx2.AsyncClient, peer: Peer, operations: list[Operation], role: Role
) -> None:
    for one in operations:
        if one.scope is None:
            continue
        peer.seen.clear()
        status = (await one.call(http, bearer(role, "b"))).status_code

        assert (status == 403) is (one.scope not in BUNDLES[role]), (one, status)
        if status == 403:
            assert peer.seen == [], one


@pytest.mark.parametrize("role", ["operator", "admin"])
async def test_no_operation_reaches_what_belongs_to_another_tenant(
    http: httpx2.AsyncClient, peer: Peer, operations: list[Operation], role: str
) -> None:
    ids = await belongings(http)
    before = await looked_at(http, ids)
    reading = {"get", "list", "status", "events", "audit", "packages", "nodes", "health"}

    for one in operations:
        if one.scope is None or one.name == "register_agent":  # ids are the fleet's: that one is taken is told
            continue
        answer = await one.call(http, bearer(role), **ids)

        assert answer.status_code in ({404, 403} if one.names_one else {200, 201, 403}), (one, answer.text)
        assert '"theirs"' not in answer.text.replace("agent 'theirs'", "") or one.name == "command_agents", one
        if one.name == "command_agents" and answer.status_code == 200:
            assert [result["error"]["code"] for result in answer.json()["results"]] == ["agent_not_found"]
    assert {seen.name for seen in peer.seen} <= reading
    assert await looked_at(http, ids) == before


async def belongings(http: httpx2.AsyncClient) -> dict[str, str]:
    """Make one of everything in workspace b, and return the ids."""
    owner = bearer("admin", "b")
    made = await http.post("/api/v1/tokens", headers=owner, json={"name": "b", "role": "viewer"})
    run = await http.post("/api/v1/agents/theirs/runs", headers=owner, json={"message": "x"})
    file = await http.post("/api/v1/files", headers=owner, files=_FORMS["upload_files"])
    return {
        "token_id": made.json()["id"],
        "run_id": run.json()["runId"],
        "session_id": run.json()["sessionId"],
        "file_id": file.json()["fileId"],
    }


async def looked_at(http: httpx2.AsyncClient, ids: dict[str, str]) -> list[Any]:
    """Read it all as its owner."""
    owner = bearer("admin", "b")
    keys = (await http.get("/api/v1/tokens", headers=owner)).json()["tokens"]
    found = [[key["revoked_at"] for key in keys if key["id"] == ids["token_id"]]]
    for path in ("runs/{run_id}", "sessions/{session_id}", "files/{file_id}"):
        answer = await http.get(f"/api/v1/{path}".format(**ids), headers=owner)
        assert answer.status_code == 200
        found.append(answer.json())
    return found


# --- with the real manager --------------------------------------------------------------------------------------------


@pytest.fixture
async def node(tmp_path: Path, nats_url: str) -> AsyncIterator[Server]:
    """A manager with an agent of workspace b, and an API before it."""
    manager = ManagerProcess(tmp_path / "node", nats_url)
    folder = manager.packages / "theirs"
    folder.mkdir()
    (folder / "agent.yaml").write_text(
        "name: theirs\ncommand: [sleep, '1000']\nheartbeat: process\nautostart: false\naccess: {workspaces: [b]}\n"
    )
    try:
        manager.start()
        with running(tmp_path / "api", nats_url, JWT_SECRET=SECRET) as api:
            yield api
    finally:
        manager.close()


async def test_nothing_of_another_tenant_changes_on_a_real_node(node: Server, operations: list[Operation]) -> None:
    async with httpx2.AsyncClient(base_url=node.url, timeout=60, trust_env=False) as http:
        start = await http.post("/api/v1/agents/theirs/start?wait=30", headers=bearer(workspace="b"))
        assert start.status_code == 200, start.text
        before = (await http.get("/api/v1/agents/theirs", headers=node.headers)).json()
        assert before["access"] == {"workspaces": ["b"], "roles": []}

        for one in operations:
            if one.scope is not None:
                answer = await one.call(http, bearer("admin", "a"))
                assert answer.status_code in {200, 201, 403, 404, 409}, (one, answer.text)

        after = (await http.get("/api/v1/agents/theirs", headers=node.headers)).json()
        audit = (await http.get("/api/v1/audit?agent=theirs", headers=node.headers)).json()["audit"]
    for view in (before, after):
        for instance in view["instances"]:
            for figure in ("uptime_s", "cpu_percent", "memory_bytes", "last_heartbeat"):
                instance.pop(figure)
    assert after == before
    assert [row["command"] for row in audit if row["outcome"] == "success"] == ["start"]
