"""What strangers and broken clients send: refused in our words, before anything reaches the bus."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.integration.api.peer import Peer
from tests.integration.api.server import Server

KEYS = {"statusCode", "message", "error", "correlationId", "hint"}


async def raw(api: Server, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are, which no client library would, and return status and body."""
    parts = urlsplit(api.url)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split()[1]), await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer wrong", "Basic {token}", "Bearer {token}x", "{token}", "Bearer ü"],
)
async def test_a_stranger_is_told_how_to_come_in(api: Server, peer: Peer, header: str) -> None:
    headers = {"Authorization": header.format(token=api.token).encode()}
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as stranger:
        answer = await stranger.get("/api/v1/agents", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert set(answer.json()) == KEYS
    assert "opmas token" in answer.json()["hint"]
    assert peer.seen == []


async def test_health_and_readyz_are_open_to_all(api: Server, peer: Peer) -> None:
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as stranger:
        assert (await stranger.get("/health")).status_code == 200
        assert (await stranger.get("/readyz")).status_code == 200


async def test_a_stranger_s_body_is_refused_unread(api: Server) -> None:
    status, _ = await raw(api, b"POST /api/v1/agents/echo/scale HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n"
                               b"connection: close\r\n\r\n")  # fmt: skip

    assert status == 401


@pytest.mark.parametrize(
    "agent_id",
    ["..%2fx", "%2e%2e%2f%2e%2e%2fetc", "*", ">", "a.b", "%00", "echo%00", "echo%0a", "UPPER", "manager", "x" * 10_000,
     "%F0%9F%A4%96", "%ff", "-x", "a%20b"],
    ids=lambda text: text[:16],
)  # fmt: skip
async def test_an_id_that_no_agent_can_have_is_not_found(http: httpx2.AsyncClient, peer: Peer, agent_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/start")):
        answer = await http.request(method, f"/api/v1/agents/{agent_id}{path}")

        assert answer.status_code in {404, 405}
        assert set(answer.json()) == KEYS
        assert len(answer.content) < 1000
    assert (await http.get(f"/api/v1/events?agent={agent_id}")).status_code == 404
    assert peer.seen == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"NaN", b'{"replicas": "3"}', b'{"replicas": -1}', b'{"replicas": 1001}',
     b'{"replicas": 1.5}', b'{"replicas": true}', b'{"replicas": 1, "x": 2}', b'{"replicas": ' + b"9" * 5000 + b"}",
     b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
async def test_a_body_that_is_no_number_of_replicas_is_a_400(http: httpx2.AsyncClient, peer: Peer, body: bytes) -> None:
    answer = await http.post("/api/v1/agents/echo/scale", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert set(answer.json()) == KEYS
    assert len(answer.content) < 1000
    assert peer.seen == []


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/api/v1/agents/echo/logs?tail=many", "tail"),
        ("/api/v1/agents/echo/logs?tail=10001", "tail"),
        ("/api/v1/agents/echo/logs?tial=1", "tial"),
        ("/api/v1/agents/echo/logs?stream=all", "stream"),
        ("/api/v1/agents?status=happy", "status"),
        ("/api/v1/events?limit=0", "limit"),
    ],
)
async def test_a_wrong_parameter_is_named(http: httpx2.AsyncClient, peer: Peer, path: str, word: str) -> None:
    answer = await http.get(path)

    assert answer.status_code == 400
    assert word in answer.json()["message"]
    assert peer.seen == []


@pytest.mark.parametrize("wait", ["-1", "601", "nan", "soon", "inf"])
async def test_a_wait_beyond_its_bounds_is_a_400(http: httpx2.AsyncClient, peer: Peer, wait: str) -> None:
    assert (await http.post("/api/v1/agents/echo/start", params={"wait": wait})).status_code == 400
    assert peer.seen == []


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b" " * 65_536


async def test_a_body_beyond_1_mb_is_a_413_announced_or_not(http: httpx2.AsyncClient, peer: Peer) -> None:
    headers = {"content-type": "application/json"}

    announced = await http.post("/api/v1/agents/echo/scale", content=b" " * 1_100_000, headers=headers)
    chunked = await http.post("/api/v1/agents/echo/scale", content=_pieces(), headers=headers)

    assert announced.status_code == chunked.status_code == 413
    assert set(announced.json()) == set(chunked.json()) == KEYS
    assert peer.seen == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/agents", 405), ("PUT", "/health", 405),
     ("GET", "/api/v1/agents/", 404), ("POST", "/api/v1/agents/echo/fly", 404)],
)  # fmt: skip
async def test_an_unknown_route_is_answered_in_our_shape(
    http: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)

    assert answer.status_code == status
    assert set(answer.json()) == KEYS


async def test_no_secret_stands_in_the_log_or_in_the_file_s_permissions(api: Server, http: httpx2.AsyncClient) -> None:
    await http.get("/api/v1/agents", params={"label": api.token})
    await http.get(f"/api/v1/agents/{api.token}")

    assert (await asyncio.to_thread(api.log.read_text)).count(api.token) == 0
    assert (api.home / "admin.token").stat().st_mode & 0o777 == 0o600


async def test_every_log_line_is_json(api: Server, http: httpx2.AsyncClient) -> None:
    await http.get("/health")

    lines = (await asyncio.to_thread(api.log.read_text)).splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
