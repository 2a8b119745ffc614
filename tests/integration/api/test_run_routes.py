"""Runs over HTTP as callers ask for them: at once, waited for, twice, cancelled, decided; and what is refused."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import pytest

from opmas.wire.runs import Assignment, RunEvent, RunStatus
from opmas.wire.status import Desired
from tests.integration.api.instance import Instance, chunk, confirm, end, working
from tests.integration.api.peer import Peer, agent
from tests.integration.api.server import Server

RUNS = "/api/v1/agents/echo/runs"
PATIENCE_S = 30.0


async def script(given: Assignment) -> AsyncGenerator[RunEvent, None]:
    """Do what the message says."""
    message = given.input.message
    if message == "hang":
        while True:
            await asyncio.sleep(0.05)
            yield chunk(".")
    elif message == "fail":
        yield end(status=RunStatus.FAILED, error="no money", reason="broke", data={"owed": 9})
    elif message == "pay" and given.resume is None:
        yield confirm("pay?", arguments={"amount": 9}, state=1)
    elif given.resume is not None:
        decision = given.resume.decision
        yield end(f"{decision.confirmed} {json.dumps(decision.arguments)} {decision.note}")
    else:
        yield chunk(message)
        yield end(message, data={"k": None}, usage={"model": "m", "total_tokens": 7})


@pytest.fixture
async def echo(nats_url: str, peer: Peer) -> AsyncIterator[Instance]:
    async with working(nats_url, "echo", script) as instance:
        yield instance


async def ask(http: httpx2.AsyncClient, message: str, wait: float | None = None, **body: Any) -> httpx2.Response:
    headers = {} if wait is None else {"Prefer": f"wait={wait:g}"}
    return await http.post(RUNS, json={"message": message, **body}, headers=headers)


async def reached(http: httpx2.AsyncClient, run_id: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            run: dict[str, Any] = (await http.get(f"{RUNS}/{run_id}")).json()
            if run["status"] == status:
                return run
            await asyncio.sleep(0.02)


# --- asked -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "kind"),
    [("", "application/json"), ("", "application/json; charset=utf-8"), ("?wait=20", "application/x+json")],
)
async def test_the_same_words_are_read_alike_however_they_are_sent(
    http: httpx2.AsyncClient, echo: Instance, query: str, kind: str
) -> None:
    body = '{"message": "hi", "sessionId": "s", "stream": false, "metadata": {"n": 1e3}, "other": 1}'
    headers = {"Content-Type": kind, "Prefer": "wait=20", "Idempotency-Key": f"alike {kind}"}
    answer = await http.post(RUNS + query, content=body, headers=headers)

    assert (answer.status_code, answer.json()["content"]) == (200, "hi")
    assert answer.headers["preference-applied"] == "wait=20"
    assert echo.seen[-1].input.metadata == {"n": 1000.0}
    refused = await http.post(RUNS + query, content=body, headers=headers | {"Idempotency-Key": "x" * 256})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


async def test_a_run_is_accepted_at_once_and_found_finished_later(http: httpx2.AsyncClient, echo: Instance) -> None:
    accepted = await ask(http, "hello")
    run = accepted.json()

    assert (accepted.status_code, run["status"], run["agentId"]) == (202, "pending", "echo")
    assert run["metadata"]["correlationId"] == accepted.headers["x-correlation-id"]
    assert accepted.headers["location"] == f"{RUNS}/{run['runId']}"
    done = await reached(http, run["runId"], "completed")
    assert (done["content"], done["data"], done["sessionId"]) == ("hello", {"k": None}, run["sessionId"])
    assert echo.seen[-1].input.correlation_id == accepted.headers["x-correlation-id"]
    assert (done["metadata"]["model"], done["metadata"]["tokensUsed"]) == ("m", 7)
    assert isinstance(done["metadata"]["durationMs"], int)
    assert [(said["role"], said["content"]) for said in done["messages"]] == [("user", "hello"), ("assistant", "hello")]
    assert (await http.get(f"/api/v1/runs/{run['runId']}")).json() == done


@pytest.mark.parametrize("how", [{"headers": {"Prefer": "respond-async, wait=20"}}, {"params": {"wait": "20"}}])
async def test_who_waits_is_answered_with_the_finished_run(
    http: httpx2.AsyncClient, echo: Instance, how: dict[str, Any]
) -> None:
    answer = await http.post(RUNS, json={"message": "hello", "stream": True}, **how)

    assert (answer.status_code, answer.json()["status"], answer.json()["content"]) == (200, "completed", "hello")
    assert answer.headers["preference-applied"] == "wait=20"


async def test_who_has_waited_long_enough_is_shown_the_run_as_it_is(http: httpx2.AsyncClient, echo: Instance) -> None:
    answer = await http.post(RUNS, json={"message": "hang"}, params={"wait": 0.3})

    assert (answer.status_code, answer.json()["status"] in {"pending", "running"}) == (202, True)
    await reached(http, answer.json()["runId"], "running")
    assert (await http.post(f"{RUNS}/{answer.json()['runId']}/cancel")).status_code == 200
    done = await reached(http, answer.json()["runId"], "failed")
    assert done["data"]["reason"] == "cancelled"


async def test_a_failed_run_says_why_to_people_and_programs(http: httpx2.AsyncClient, echo: Instance) -> None:
    run = (await ask(http, "fail", 20)).json()

    assert (run["status"], run["error"], run["data"]) == ("failed", "no money", {"owed": 9, "reason": "broke"})


async def test_the_same_key_is_the_same_run(http: httpx2.AsyncClient, peer: Peer) -> None:
    key = {"Idempotency-Key": "order 17"}
    first = await http.post(RUNS, json={"message": "a"}, headers=key)
    again = await http.post(RUNS, json={"message": "a"}, headers=key)
    other = await http.post(RUNS, json={"message": "b"}, headers=key)

    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json()["runId"] == first.json()["runId"]
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_conflict")
    cancelled = (await http.post(f"{RUNS}/{first.json()['runId']}/cancel")).json()
    assert (cancelled["status"], cancelled["data"]) == ("failed", {"reason": "cancelled"})
    assert (await http.post(RUNS, json={"message": "a"}, headers=key)).status_code == 200


async def test_a_retry_under_the_same_correlation_id_is_the_same_run(http: httpx2.AsyncClient, peer: Peer) -> None:
    body = {"message": "a", "userId": "u", "metadata": {"workspaceId": "w", "correlationId": "c-17"}, "unknown": 1}
    first, again = [(await http.post(RUNS, json=body)).json() for _ in range(2)]
    header = await http.post(RUNS, json=body, headers={"x-correlation-id": "c-18"})

    assert first["runId"] == again["runId"]
    assert header.json()["runId"] != first["runId"]
    assert header.json()["metadata"]["correlationId"] == header.headers["x-correlation-id"] == "c-18"


# --- a human decides -------------------------------------------------------------------------------------------------


async def test_a_run_waits_for_a_human_and_goes_on_with_what_was_approved(
    http: httpx2.AsyncClient, echo: Instance
) -> None:
    asked = await ask(http, "pay", 20)
    run = asked.json()
    decide = f"{RUNS}/{run['runId']}/confirmations/{run['data']['confirmationId']}"

    assert (asked.status_code, run["status"], run["data"]["requiresConfirmation"]) == (200, "running", True)
    details = run["data"]["confirmationDetails"]
    assert (details["toolName"], details["toolArgs"], details["message"]) == ("pay", {"amount": 9}, "pay?")
    assert (await http.post(f"{decide}x", json={"confirmed": True})).status_code == 404
    yes = await http.post(decide, json={"confirmed": True, "note": "ok", "arguments": {"amount": 8}})
    assert yes.status_code == 200
    assert (await reached(http, run["runId"], "completed"))["content"] == 'True {"amount": 8} ok'
    late = await http.post(decide, json={"confirmed": False})
    assert (late.status_code, late.json()["error"]) == (409, "confirmation_decided")
    audit = (await http.get("/api/v1/runs/audit", params={"limit": 1000})).json()
    assert [row["action"] for row in audit["audit"] if row["runId"] == run["runId"]] == ["run", "confirm"]


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"[]", b'{"message": ""}', b'{"params": {}}', b'{"message": "x", "params": 1}', b'{"message": 1}'],
)
async def test_what_is_no_request_is_refused_with_400(http: httpx2.AsyncClient, peer: Peer, body: bytes) -> None:
    answer = await http.post(RUNS, content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert ("at character 1" in answer.json()["message"]) == (body == b"{")
    assert ("is no JSON object" in answer.json()["message"]) == (body == b"[]")


@pytest.mark.parametrize("key", ["", "x" * 256, "ü".encode().decode("latin-1")])
async def test_a_key_that_cannot_be_one_is_refused(http: httpx2.AsyncClient, peer: Peer, key: str) -> None:
    answer = await http.post(RUNS, json={"message": "x"}, headers={"Idempotency-Key": key.encode("latin-1")})

    assert answer.status_code == 400
    assert "idempotency-key" in answer.json()["message"]


@pytest.mark.parametrize("size", [513 << 10, 8 << 20])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_in_our_words(
    api: Server, http: httpx2.AsyncClient, peer: Peer, size: int, announced: bool
) -> None:
    content = b'{"message": "' + b"x" * size + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    answer = await http.post(
        f"{api.agentos_url}/agents/echo/runs",
        content=content if announced else pieces(),
        headers={"Content-Type": "application/json"},
    )

    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


async def test_only_an_agent_that_is_wanted_and_takes_runs_is_asked(http: httpx2.AsyncClient, peer: Peer) -> None:
    mute = agent("mute")
    peer.known["stopped"] = agent("stopped").model_copy(update={"desired": Desired.STOPPED})
    peer.known["mute"] = mute.model_copy(
        update={"instances": (mute.instances[0].model_copy(update={"takes_runs": False}),)}
    )

    for name, status, code in (
        ("ghost", 404, "agent_not_found"),
        ("*", 404, "agent_not_found"),
        ("stopped", 409, "agent_not_running"),
        ("mute", 409, "takes_no_runs"),
    ):
        answer = await http.post(f"/api/v1/agents/{name}/runs", json={"message": "x"})
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        assert answer.json()["hint"]


async def test_what_belongs_to_another_workspace_is_not_there(http: httpx2.AsyncClient, peer: Peer) -> None:
    run = (await ask(http, "secret", sessionId="s-theirs")).json()
    file = (await http.post("/api/v1/files", files={"file": ("a.txt", b"secret", "text/plain")})).json()
    key = (await http.post("/api/v1/tokens", json={"name": "b", "role": "admin", "workspace": "b"})).json()["token"]
    other = {"Authorization": f"Bearer {key}"}

    for method, path in (
        ("GET", f"{RUNS}/{run['runId']}"),
        ("GET", f"{RUNS}/{run['runId']}/stream"),
        ("POST", f"{RUNS}/{run['runId']}/cancel"),
        ("POST", f"{RUNS}/{run['runId']}/confirmations/c"),
        ("GET", f"/api/v1/runs/{run['runId']}"),
        ("GET", "/api/v1/sessions/s-theirs"),
        ("GET", "/api/v1/sessions/s-theirs/messages"),
        ("GET", "/api/v1/sessions/s-theirs/export"),
        ("PATCH", "/api/v1/sessions/s-theirs"),
        ("DELETE", "/api/v1/sessions/s-theirs"),
        ("GET", f"/api/v1/files/{file['fileId']}"),
    ):
        body = {"confirmed": True, "title": "x"} if method in {"POST", "PATCH"} else None
        answer = await http.request(method, path, json=body, headers=other)
        assert answer.status_code == 404, (method, path, answer.text)
    assert (await http.get("/api/v1/runs", headers=other)).json() == {"runs": [], "total": 0}
    assert (await http.get("/api/v1/sessions", headers=other)).json() == {"sessions": [], "total": 0}
    asked = await http.post(RUNS, json={"message": "x", "files": [file["fileId"]]}, headers=other)
    assert (asked.status_code, asked.json()["error"]) == (404, "file_not_found")


async def test_runs_are_listed_by_agent_session_user_status_and_time(http: httpx2.AsyncClient, peer: Peer) -> None:
    ids = [(await ask(http, f"{n}" * 300, sessionId="s-list", userId="ann")).json()["runId"] for n in range(3)]
    theirs = (await ask(http, "x", sessionId="s-list", userId="bob")).json()["runId"]
    await http.post(f"{RUNS}/{ids[0]}/cancel")

    async def listed(**query: Any) -> list[str]:
        found = await http.get("/api/v1/runs", params=query or {"session": "s-list"})
        assert found.status_code == 200, found.text
        return [run["runId"] for run in found.json()["runs"]]

    assert await listed() == ids[::-1]
    assert await listed(session="s-list", limit=1, offset=1) == [ids[1]]
    assert await listed(user="bob", agent="echo") == [theirs]
    assert await listed(user="ann", status="cancelled") == [ids[0]]
    assert await listed(since="2999-01-01T00:00:00Z") == []
    one = (await http.get("/api/v1/runs", params={"session": "s-list", "status": "cancelled"})).json()["runs"][0]
    assert (one["status"], one["detail"], len(one["message"])) == ("failed", "cancelled", 200)
    assert (await http.get("/api/v1/runs", params={"status": "unheard-of"})).status_code == 400
