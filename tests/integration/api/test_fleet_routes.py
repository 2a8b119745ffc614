"""Registration, batches, history and the system: what travels to the manager, and what comes back."""

import httpx2
import pytest

from opmas.wire.errors import AgentFailed, Conflict, PackageInvalid
from opmas.wire.status import AgentStatus
from opmas.wire.views import AgentList
from tests.integration.api.peer import Peer, agent

# --- registration ---------------------------------------------------------------------------------------------------


async def test_a_new_agent_is_made_and_shown(http: httpx2.AsyncClient, peer: Peer) -> None:
    body = {"id": "second", "name": "Second", "package": "echo", "agent_type": "example", "config": {"a": [1, None]}}
    answer = await http.post("/api/v1/agents", json=body | {"enabled": True, "replicas": 2, "description": "d"})

    assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/agents/second")
    assert answer.json() == (await http.get("/api/v1/agents/second")).json()
    assert (peer.seen[0].name, peer.seen[0].agent_id) == ("register", "second")
    assert peer.seen[0].params == {
        "name": "Second", "package": "echo", "type": "example", "config": {"a": [1, None]}, "enabled": True,
        "replicas": 2, "description": "d",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "made"), [("My Agent!", "my-agent"), ("  _x_ ", "x"), ("Ä b", "b"), ("a" * 90, "a" * 63), ("a.b", "a-b")]
)
async def test_an_agent_without_an_id_is_named_after_its_name(
    http: httpx2.AsyncClient, peer: Peer, name: str, made: str
) -> None:
    answer = await http.post("/api/v1/agents", json={"name": name, "package": "echo"})

    assert (answer.status_code, answer.json()["id"]) == (201, made)


@pytest.mark.parametrize("name", ["!!!", "状態"])
async def test_a_name_that_makes_no_id_asks_for_one(http: httpx2.AsyncClient, peer: Peer, name: str) -> None:
    answer = await http.post("/api/v1/agents", json={"name": name, "package": "echo"})

    assert answer.status_code == 400
    assert "id" in answer.json()["hint"]


async def test_a_reserved_id_is_nobodys(http: httpx2.AsyncClient, peer: Peer) -> None:
    answer = await http.post("/api/v1/agents", json={"id": "manager", "name": "x", "package": "echo"})

    assert answer.status_code == 404
    assert peer.seen == []


async def test_an_id_that_is_taken_is_a_conflict(http: httpx2.AsyncClient, peer: Peer) -> None:
    answer = await http.post("/api/v1/agents", json={"id": "echo", "name": "x", "package": "echo"})

    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")


async def test_a_broken_package_is_named_in_the_shape_of_errors(http: httpx2.AsyncClient, peer: Peer) -> None:
    peer.answers["register"] = PackageInvalid("agent.yaml:3:1: unknown key", "mend it")

    answer = await http.post("/api/v1/agents", json={"name": "x", "package": "bad"})

    assert answer.status_code == 422
    assert answer.json()["message"] == "agent.yaml:3:1: unknown key"


async def test_a_change_replaces_what_is_given_and_nothing_else(http: httpx2.AsyncClient, peer: Peer) -> None:
    body = {"config": {}, "labels": {"team": "a"}, "access": {"workspaces": ["acme"]}, "id": "echo", "package": "echo"}
    answer = await http.put("/api/v1/agents/echo", json=body)

    assert (answer.status_code, answer.json()["id"]) == (200, "echo")
    sent = next(seen for seen in peer.seen if seen.name == "update")
    assert sent.params == {"config": {}, "labels": {"team": "a"}, "access": {"workspaces": ["acme"], "roles": []}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "other"}, 409),
        ({"package": "other"}, 409),
        ({"nmae": "x"}, 400),
        ({"access": {"workspace": ["acme"]}}, 400),
    ],
)
async def test_what_cannot_be_changed_is_refused(
    http: httpx2.AsyncClient, peer: Peer, body: dict[str, object], status: int
) -> None:
    answer = await http.put("/api/v1/agents/echo", json=body)

    assert answer.status_code == status
    assert [seen for seen in peer.seen if seen.name == "update"] == []


async def test_a_deleted_agent_is_gone_and_cannot_be_deleted_again(http: httpx2.AsyncClient, peer: Peer) -> None:
    first, second = await http.delete("/api/v1/agents/echo"), await http.delete("/api/v1/agents/echo")

    assert (first.status_code, first.content) == (204, b"")
    assert second.status_code == 404


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_a_batch_answers_for_every_agent_whatever_becomes_of_others(http: httpx2.AsyncClient, peer: Peer) -> None:
    fates = {"two": AgentFailed("cannot start"), "three": Conflict("it is disabled")}
    peer.answers["restart"] = lambda name, _: fates.get(name or "", agent("echo"))

    body = {"action": "restart", "agent_ids": ["two", "echo", "three", "../x", "echo"]}
    answer = await http.post("/api/v1/agents/batch?wait=3", json=body)

    results = answer.json()["results"]
    assert (answer.status_code, answer.json()["total"], answer.json()["failed"]) == (200, 4, 3)
    assert [(result["agent_id"], (result["error"] or {}).get("code")) for result in results] == [
        ("two", "agent_failed"), ("echo", None), ("three", "conflict"), ("../x", "agent_not_found")
    ]  # fmt: skip
    assert [seen.params for seen in peer.seen] == [{"wait": 3}] * 3


async def test_a_batch_finds_agents_by_their_labels(http: httpx2.AsyncClient, peer: Peer) -> None:
    labelled = {name: agent(name).model_copy(update={"labels": {"team": "a", "n": name}}) for name in ("x", "y")}
    peer.known |= labelled

    both = await http.post("/api/v1/agents/batch", json={"action": "stop", "labels": {"team": "a"}})
    one = await http.post("/api/v1/agents/batch", json={"action": "stop", "labels": {"team": "a", "n": "y"}})
    none = await http.post("/api/v1/agents/batch", json={"action": "stop", "labels": {"team": "b"}})

    assert [[result["agent_id"] for result in a.json()["results"]] for a in (both, one, none)] == [
        ["x", "y"],
        ["y"],
        [],
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "start"},
        {"action": "start", "agent_ids": []},
        {"action": "start", "labels": {}},
        {"action": "start", "agent_ids": ["a"], "labels": {"a": "b"}},
        {"action": "explode", "agent_ids": ["a"]},
        {"action": "start", "agent_ids": ["a"] * 1001},
    ],
)
async def test_a_batch_that_names_no_one_or_no_action_is_refused(
    http: httpx2.AsyncClient, peer: Peer, body: dict[str, object]
) -> None:
    assert (await http.post("/api/v1/agents/batch", json=body)).status_code == 400
    assert peer.seen == []


@pytest.mark.parametrize("command", ["enable", "disable", "reload"])
async def test_other_commands_are_answered_in_the_response_format(
    http: httpx2.AsyncClient, peer: Peer, command: str
) -> None:
    answer = await http.post(f"/api/v1/agents/echo/{command}")

    assert (answer.status_code, answer.json()["command"]) == (200, command)
    assert [(seen.name, seen.params) for seen in peer.seen] == [(command, {})]


# --- lists, history, system -----------------------------------------------------------------------------------------


async def test_a_list_is_searched_sorted_and_paged_whatever_pages_the_manager_answers_in(
    http: httpx2.AsyncClient, peer: Peer
) -> None:
    pages = {
        None: AgentList(agents=(agent("a"), agent("b")), total=3, next="b"),
        "b": AgentList(agents=(agent("c", AgentStatus.ERROR),), total=3),
    }
    peer.answers["list"] = lambda _, params: pages[params.get("after")]

    page = (await http.get("/api/v1/agents", params={"sort": "-id", "limit": 2, "search": "REPEATS"})).json()

    assert ([found["id"] for found in page["agents"]], page["total"]) == (["c", "b"], 3)


async def test_why_audit_nodes_and_events_of_one_agent_are_the_managers_words(
    http: httpx2.AsyncClient, peer: Peer
) -> None:
    why = (await http.get("/api/v1/agents/echo/why")).json()
    audit = (await http.get("/api/v1/audit", params={"agent": "echo", "limit": 5})).json()
    nodes = (await http.get("/api/v1/nodes")).json()
    events = (await http.get("/api/v1/agents/echo/events", params={"after": 3})).json()

    assert (why["code"], why["steps"][0]["what"]) == ("running", "started")
    assert audit["audit"][0]["publisher"] == "cli"
    assert (nodes["total"], nodes["nodes"][0]["id"]) == (1, "n1")
    assert (events["events"][0]["id"], events["next"]) == (7, 7)
    assert [(s.name, s.agent_id, s.params) for s in peer.seen] == [
        ("why", "echo", {}),
        ("audit", "echo", {"limit": 5}),
        ("nodes", None, {}),
        ("get", "echo", {}),
        ("events", "echo", {"after": 3, "limit": 100}),
    ]


async def test_the_system_tells_what_runs_and_how_it_was_set(http: httpx2.AsyncClient, peer: Peer) -> None:
    system = (await http.get("/api/v1/system")).json()

    assert set(system) == {"versions", "started_at", "nodes", "isolation", "limits", "settings"}
    assert system["isolation"] == {"n1": "landlock 4"}
    assert system["limits"]["body_bytes"] == 1 << 20
    assert system["settings"]["service"]["host"] == "127.0.0.1"


async def test_prometheus_sees_requests_by_route_and_agents_by_status(http: httpx2.AsyncClient, peer: Peer) -> None:
    peer.known["broken"] = agent("broken", AgentStatus.ERROR)
    await http.get("/api/v1/agents/echo")
    await http.get("/api/v1/agents/nobody")
    await http.request("BREW", "/api/v1/agents")

    text = (await http.get("/metrics")).text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    route = 'method="GET",route="/api/v1/agents/{agent_id}"'
    assert float(figures[f'opmas_http_requests_total{{{route},status="200"}}']) >= 1
    assert float(figures[f'opmas_http_errors_total{{{route},status="404"}}']) >= 1
    assert float(figures[f"opmas_http_request_seconds_count{{{route}}}"]) >= 2
    assert figures['opmas_agents{status="running"}'] == figures['opmas_agents{status="error"}'] == "1.0"
    assert figures['opmas_agent_restarts_total{agent_id="broken"}'] == "2.0"
    assert figures["opmas_manager_up"] == "1.0"
    assert "nobody" not in text
    assert "BREW" not in text


async def test_prometheus_is_answered_while_no_manager_is(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/metrics")

    assert answer.status_code == 200
    assert "opmas_manager_up 0.0" in answer.text
    assert "opmas_agents{" not in answer.text
