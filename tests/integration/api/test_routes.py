"""What the API answers when a manager does: the bodies existing clients expect, and each error with its HTTP status."""

import asyncio
import json

import httpx2
import pytest

from opmas.client import OpmasClient
from opmas.wire import errors
from opmas.wire.errors import AgentFailed, AgentNotFound, DeadlineExceeded, OpmasError
from opmas.wire.params import LogsParams
from opmas.wire.status import AgentStatus
from tests.integration.api.peer import Peer
from tests.integration.api.server import Server

AGENT_KEYS = {
    *("id", "name", "type", "version", "description", "package", "status", "desired", "enabled", "replicas"),
    *("capabilities", "config", "labels", "instances", "next_retry_at", "reason", "access", "runs"),
    *("created_at", "updated_at"),
}
ERRORS = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, OpmasError)]


async def test_an_agent_has_every_field_that_existing_clients_read(http: httpx2.AsyncClient, peer: Peer) -> None:
    listed = (await http.get("/api/v1/agents")).json()
    one = (await http.get("/api/v1/agents/echo")).json()

    assert listed == {"agents": [one], "total": 1}
    assert set(one) == AGENT_KEYS
    assert set(one["instances"][0]) >= {"id", "pid", "node", "status", "uptime_s", "restarts", "last_heartbeat"}
    assert set(one["instances"][0]["last_exit"]) == {"exit_code", "signal", "terminated_at", "reason"}


@pytest.mark.parametrize("command", ["start", "stop", "restart"])
async def test_a_command_is_answered_in_the_response_format(http: httpx2.AsyncClient, peer: Peer, command: str) -> None:
    answer = await http.post(f"/api/v1/agents/echo/{command}", params={"wait": "2.5"})

    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "command", "agent_id", "result", "error", "timestamp"}
    assert answer.json()["result"] == {"accepted": True, "generation": 2, "status": "running", "changed": False}
    assert [(s.name, s.agent_id, s.params) for s in peer.seen] == [(command, "echo", {"wait": 2.5})]


async def test_scale_takes_the_number_from_the_body(http: httpx2.AsyncClient, peer: Peer) -> None:
    answer = await http.post("/api/v1/agents/echo/scale", json={"replicas": 3})

    assert answer.status_code == 200
    assert peer.seen[0].params == {"replicas": 3}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.code)
async def test_an_error_of_the_manager_keeps_its_code_on_both_kinds_of_route(
    http: httpx2.AsyncClient, peer: Peer, kind: type[OpmasError]
) -> None:
    peer.answers = {"start": kind("cannot: because", "do this"), "get": kind("cannot: because", "do this")}

    command, query = await http.post("/api/v1/agents/echo/start"), await http.get("/api/v1/agents/echo")

    assert command.status_code == query.status_code == kind.status
    assert command.json()["error"] == {"code": kind.code, "message": "cannot: because", "hint": "do this"}
    assert query.json() == {
        "statusCode": kind.status,
        "message": "cannot: because",
        "error": kind.code,
        "correlationId": query.headers["x-correlation-id"],
        "hint": "do this",
    }
    assert query.headers.get("retry-after") == ("1" if kind.status in {429, 503} else None)


async def test_what_a_caller_filters_by_reaches_the_manager(http: httpx2.AsyncClient, peer: Peer) -> None:
    await http.get("/api/v1/agents", params={"status": "running", "label": "team=a"})
    await http.get("/api/v1/agents/echo/logs", params={"tail": 5, "grep": "x", "stream": "stderr"})
    await http.get("/api/v1/events", params={"agent": "echo", "after": 3})
    await http.get("/api/v1/packages", params={"registered": "false"})

    assert [(s.name, s.agent_id, s.params) for s in peer.seen] == [
        ("list", None, {"status": "running", "label": "team=a"}),
        ("logs", "echo", {"tail": 5, "grep": "x", "stream": "stderr"}),
        ("events", "echo", {"after": 3, "limit": 100}),
        ("packages", None, {"registered": False}),
    ]


async def test_health_tells_each_part_and_readyz_agrees(http: httpx2.AsyncClient, peer: Peer) -> None:
    health, ready = await http.get("/health"), await http.get("/readyz")

    assert health.json()["status"] == "ok"
    assert health.json()["parts"] == {"nats": "ok", "manager": "ok", "manager.database": "ok"}
    assert health.json()["registered_agents"] == 1
    assert ready.json() == {"ready": True, "version": health.json()["version"]}


@pytest.mark.parametrize("nonsense", [b"", b"}{", b"[" * 100_000, b'{"status":"success","command":"get","result":7}'])
async def test_an_answer_that_is_none_becomes_an_error_not_a_crash(
    http: httpx2.AsyncClient, peer: Peer, nonsense: bytes
) -> None:
    peer.answers["get"] = nonsense

    answer = await http.get("/api/v1/agents/echo")

    assert answer.status_code == 500
    assert "cannot understand the manager's answer" in answer.json()["message"]


async def test_the_correlation_id_is_echoed_sent_on_and_logged(
    api: Server, http: httpx2.AsyncClient, peer: Peer
) -> None:
    answer = await http.get("/api/v1/agents", headers={"x-correlation-id": "trace-42"})

    assert answer.headers["x-correlation-id"] == "trace-42"
    assert peer.seen[0].headers["x-correlation-id"] == "trace-42"
    async with asyncio.timeout(5):
        while True:
            if '"correlation_id": "trace-42"' in await asyncio.to_thread(api.log.read_text):
                break
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("hostile", ["", "a b", "x" * 129, "ä", "a\tb"])
async def test_an_unacceptable_correlation_id_is_replaced(http: httpx2.AsyncClient, peer: Peer, hostile: str) -> None:
    answer = await http.get("/api/v1/agents", headers={"x-correlation-id": hostile.encode()})

    assert answer.headers["x-correlation-id"].isalnum()
    assert answer.headers["x-correlation-id"] != hostile


# --- the client library ---------------------------------------------------------------------------------------------


async def test_the_client_returns_views(api: Server, peer: Peer) -> None:
    async with OpmasClient(api.url, api.token) as client:
        assert (await client.agents()).total == 1
        assert (await client.agent("echo")).status is AgentStatus.RUNNING
        assert (await client.start("echo", wait=1)).accepted
        assert (await client.scale("echo", 2)).generation == 2
        assert (await client.logs("echo", LogsParams(tail=1))).next == "c1"
        assert (await client.events("echo")).next == 7
        assert (await client.status("echo")).health == "healthy"
        assert (await client.metrics("echo")).metrics.cpu_percent == 1.5
        assert (await client.packages()).packages[0].error == "no"


async def test_the_client_raises_the_errors_of_the_wire(api: Server, peer: Peer) -> None:
    peer.answers = {"start": AgentFailed("cannot start", "look"), "stop": DeadlineExceeded("too late")}
    async with OpmasClient(api.url, api.token) as client:
        with pytest.raises(AgentFailed, match="cannot start"):
            await client.start("echo")
        with pytest.raises(DeadlineExceeded):
            await client.stop("echo")
        with pytest.raises(AgentNotFound):
            await client.agent("nobody")
        with pytest.raises(errors.InvalidRequest):
            await client.agent("../echo")
    async with OpmasClient(api.url, "wrong") as client:
        with pytest.raises(errors.PermissionDenied):
            await client.agents()
        assert "wrong" not in repr(client)


async def test_the_client_names_an_api_that_is_away() -> None:
    async with OpmasClient("http://127.0.0.1:1", "token") as client:
        with pytest.raises(errors.ManagerUnavailable, match=r"127\.0\.0\.1:1"):
            await client.agents()


async def test_a_client_stops_waiting_at_its_deadline(api: Server, peer: Peer) -> None:
    peer.answers["list"] = None
    async with OpmasClient(api.url, api.token, timeout_s=0.2) as client:
        with pytest.raises(DeadlineExceeded):
            await client.agents()


def test_no_answer_differs_from_its_json(api: Server) -> None:
    schema = json.loads(httpx2.get(f"{api.url}/openapi.json").content)

    assert {"/api/v1/agents", "/api/v1/agents/{agent_id}/logs", "/health", "/readyz"} <= set(schema["paths"])
