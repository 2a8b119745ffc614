"""Sessions over HTTP: begun, continued, read, renamed, exported and deleted; and who may see whose."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from opmas.wire.runs import Assignment, RunEvent
from tests.integration.api.instance import Instance, end, working
from tests.integration.api.peer import Peer
from tests.integration.api.server import Server, running

RUNS = "/api/v1/agents/echo/runs"
SESSIONS = "/api/v1/sessions"
SECRET = "a secret of thirty-two bytes, or more"


async def script(given: Assignment) -> AsyncGenerator[RunEvent, None]:
    """Answer with what was said before."""
    yield end(f"{len(given.history)} before {given.input.message}")


@pytest.fixture
async def echo(nats_url: str, peer: Peer) -> AsyncIterator[Instance]:
    async with working(nats_url, "echo", script) as instance:
        yield instance


async def said(http: httpx2.AsyncClient, message: str, session: str | None = None) -> dict[str, Any]:
    body = {"message": message} | ({"sessionId": session} if session else {})
    answer = await http.post(RUNS, json=body, params={"wait": 20})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_runs_of_one_session_go_on_from_what_was_said(http: httpx2.AsyncClient, echo: Instance) -> None:
    first = await said(http, "a")
    second = await said(http, "b", first["sessionId"])
    detail = (await http.get(f"{SESSIONS}/{first['sessionId']}")).json()

    assert second["sessionId"] == first["sessionId"]
    assert second["content"] == "2 before b"
    assert (detail["runCount"], detail["messageCount"], detail["agentId"]) == (2, 4, "echo")
    turns = [(turn["role"], turn["content"]) for turn in detail["messages"]]
    assert turns == [("user", "a"), ("assistant", "0 before a"), ("user", "b"), ("assistant", "2 before b")]
    messages = (await http.get(f"{SESSIONS}/{first['sessionId']}/messages")).json()
    assert messages == {"messages": detail["messages"], "total": 4}


async def test_a_session_is_begun_renamed_listed_and_deleted_with_its_runs(
    http: httpx2.AsyncClient, echo: Instance
) -> None:
    body = {"agentId": "echo", "title": "Greetings", "sessionId": "of my own", "userId": "carl"}
    odd = await http.post(SESSIONS, json=body)
    made = await http.post(SESSIONS, json=body | {"sessionId": "of-my-own"})
    session = made.json()["sessionId"]
    await http.post(RUNS, json={"message": "a", "sessionId": session, "userId": "carl"}, params={"wait": 20})

    assert (odd.status_code, made.status_code, session) == (201, 201, "of-my-own")
    assert odd.json()["sessionId"] != "of my own"
    renamed = await http.patch(f"{SESSIONS}/{session}", json={"title": "Farewells"})
    assert (renamed.status_code, renamed.json()["title"]) == (200, "Farewells")
    listed = (await http.get(SESSIONS, params={"agent": "echo", "user": "carl"})).json()
    assert (listed["total"], {one["sessionId"] for one in listed["sessions"]}) == (
        2,
        {session, odd.json()["sessionId"]},
    )
    assert (await http.delete(f"{SESSIONS}/{session}")).status_code == 204
    assert (await http.get(f"{SESSIONS}/{session}")).json()["error"] == "session_not_found"
    assert (await http.get("/api/v1/runs", params={"session": session})).json()["total"] == 0
    ghost = await http.post(SESSIONS, json={"agentId": "ghost"})
    assert (ghost.status_code, ghost.json()["error"]) == (404, "agent_not_found")


async def test_a_session_with_a_run_under_way_is_not_deleted(http: httpx2.AsyncClient, peer: Peer) -> None:
    run = (await http.post(RUNS, json={"message": "a"})).json()

    refused = await http.delete(f"{SESSIONS}/{run['sessionId']}")

    assert (refused.status_code, refused.json()["error"]) == (409, "session_busy")


async def test_a_session_is_exported_for_programs_and_for_people(http: httpx2.AsyncClient, echo: Instance) -> None:
    session = (await said(http, "a *b*", "to/keep@home"))["sessionId"]
    where = f"{SESSIONS}/to%2Fkeep@home/export"
    assert session == "to/keep@home"

    data, text = await http.get(where), await http.get(where, params={"format": "markdown"})

    assert data.json() == (await http.get(f"{SESSIONS}/to%2Fkeep@home")).json()
    assert data.headers["content-disposition"] == 'attachment; filename="session-to-keep-home.json"'
    assert text.headers["content-type"].startswith("text/markdown")
    assert "## user" in text.text
    assert "a *b*" in text.text
    assert (await http.get(where, params={"format": "pdf"})).status_code == 400


async def test_a_person_sees_their_own_and_an_operator_all_of_the_workspace(
    api: Server, nats_url: str, tmp_path: Path, echo: Instance
) -> None:
    def bearer(subject: str, role: str) -> dict[str, str]:
        claims = {"sub": subject, "workspaceId": "people", "roles": [role], "exp": time.time() + 600}
        return {"Authorization": "Bearer " + jwt.encode(claims, SECRET)}

    record = f"sqlite:///{api.home / 'api.db'}"
    with running(tmp_path / "api", nats_url, DATABASE_URL=record, JWT_SECRET=SECRET) as other:
        async with httpx2.AsyncClient(base_url=other.url, timeout=30, trust_env=False) as client:
            ann, bob, chief = bearer("ann", "user"), bearer("bob", "user"), bearer("chief", "operator")
            body = {"message": "a", "userId": "bob"}
            run = (await client.post(RUNS, json=body, headers=ann, params={"wait": 20})).json()
            one, session = f"{RUNS}/{run['runId']}", f"{SESSIONS}/{run['sessionId']}"

            assert [(await client.get(path, headers=ann)).status_code for path in (one, session)] == [200, 200]
            assert [(await client.get(path, headers=bob)).status_code for path in (one, session)] == [404, 404]
            assert [(await client.get(path, headers=chief)).status_code for path in (one, session)] == [200, 200]
            for path in ("/api/v1/runs", SESSIONS):
                assert (await client.get(path, headers=bob)).json()["total"] == 0
                assert (await client.get(path, headers=bob, params={"user": "ann"})).json()["total"] == 0
                assert (await client.get(path, headers=chief, params={"user": "ann"})).json()["total"] == 1
            assert (await client.post(f"{one}/cancel", headers=bob)).status_code == 404
            assert (await client.get("/api/v1/runs/audit", headers=ann)).status_code == 403
