"""Streams of runs: the four types that clients know, resumed without gap or duplicate, and ended in good order."""

import asyncio
import http.client
import json
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import pytest

from opmas.wire.runs import Assignment, EventKind, RunEvent, RunStatus, ToolCall
from tests.integration.api.instance import Instance, chunk, confirm, end, working
from tests.integration.api.peer import Peer
from tests.integration.api.server import Server, running
from tests.node import until

RUNS = "/api/v1/agents/echo/runs"
STREAM = {"Accept": "text/event-stream"}
PATIENCE_S = 30.0
SECRET = "a secret of thirty-two bytes, or more"


class Gate:
    """Lets a script go on when the test says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def script(self, given: Assignment) -> AsyncGenerator[RunEvent, None]:
        """Say half, and the other half once the gate is open."""
        if given.input.message == "all kinds" and given.resume is None:
            yield RunEvent(kind=EventKind.TOOL, tool=ToolCall(id="t1", name="pay", arguments={"amount": 9}))
            yield RunEvent(kind=EventKind.AGNO, agno="{}")
            yield confirm("pay?")
        elif given.input.message == "fail":
            yield end(status=RunStatus.FAILED, error="no money", reason="broke")
        else:
            yield chunk("one\n")
            yield chunk("två ")
            await self.open.wait()
            yield chunk("three")
            yield end("one\ntvå three")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def echo(nats_url: str, peer: Peer, gate: Gate) -> AsyncIterator[Instance]:
    async with working(nats_url, "echo", gate.script) as instance:
        yield instance


@dataclass(frozen=True)
class Told:
    """One event of a stream."""

    id: str
    data: Any


class Reader:
    """Reads events, and checks that there is nothing else but comments and the time to come back after."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self._lines = response.aiter_lines()

    async def events(self) -> AsyncGenerator[Told, None]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(":")
            if not name and line:
                self.comments.append(value)
            elif line:
                assert name in {"id", "data", "retry"}, line
                fields[name] = value.strip()
            elif "data" in fields:
                yield Told(fields["id"], json.loads(fields["data"]))
                fields = {}

    async def told(self, count: int) -> list[Told]:
        """Return the next events."""
        found: list[Told] = []
        async with asyncio.timeout(PATIENCE_S), aclosing(self.events()) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
        return found

    async def rest(self) -> list[Told]:
        """Return all events until the stream closes."""
        async with asyncio.timeout(PATIENCE_S):
            return [event async for event in self.events()]


@asynccontextmanager
async def asking(client: httpx2.AsyncClient, message: str, **headers: str) -> AsyncIterator[Reader]:
    async with client.stream("POST", RUNS, json={"message": message}, headers=STREAM | headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Reader(response)


@asynccontextmanager
async def following(client: httpx2.AsyncClient, run_id: str, **headers: str) -> AsyncIterator[Reader]:
    async with client.stream("GET", f"{RUNS}/{run_id}/stream", headers=STREAM | headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Reader(response)


async def begun(client: httpx2.AsyncClient, message: str = "x") -> str:
    return str((await client.post(RUNS, json={"message": message})).json()["runId"])


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_the_stream_of_a_run_is_its_start_its_answer_in_pieces_and_its_end(
    http: httpx2.AsyncClient, echo: Instance, gate: Gate
) -> None:
    gate.open.set()
    async with asking(http, "hello") as reader:
        told = await reader.rest()

    assert [event.data["type"] for event in told] == ["start", "chunk", "chunk", "chunk", "end"]
    assert [event.id for event in told] == ["1", "2", "3", "4", "5"]
    assert (
        "".join(event.data.get("content", "") for event in told) == told[-1].data["data"]["content"] == "one\ntvå three"
    )
    run_id = reader.response.headers["location"].rpartition("/")[2]
    assert {event.data["runId"] for event in told} == {run_id, told[-1].data["data"]["runId"]}
    async with following(http, run_id) as replay:
        assert await replay.rest() == told


async def test_whoever_comes_back_misses_nothing_and_is_told_nothing_twice(
    http: httpx2.AsyncClient, echo: Instance, gate: Gate
) -> None:
    run_id = await begun(http)
    async with following(http, run_id) as cut:
        first = await cut.told(3)
    gate.open.set()
    async with following(http, run_id, **{"Last-Event-ID": first[-1].id}) as resumed:
        rest = await resumed.rest()

    assert [event.id for event in first + rest] == ["1", "2", "3", "4", "5"]
    after = await http.get(f"{RUNS}/{run_id}/stream", headers={"Last-Event-ID": "5"})
    assert (after.status_code, after.content) == (204, b"")
    wrong = await http.get(f"{RUNS}/{run_id}/stream", headers={"Last-Event-ID": "x"})
    assert wrong.status_code == 400


async def test_tools_and_confirmations_are_chunks_without_content_and_agno_s_own_events_are_not_told(
    http: httpx2.AsyncClient, echo: Instance, gate: Gate
) -> None:
    gate.open.set()
    async with (
        asking(http, "all kinds") as reader,
        aclosing(reader.events()) as events,
        asyncio.timeout(PATIENCE_S),
    ):
        start, tool, asked = [await anext(events) for _ in range(3)]
        run_id, waiting = asked.data["runId"], asked.data["data"]
        assert [start.id, tool.id, asked.id] == ["1", "2", "4"]
        assert (tool.data["content"], tool.data["data"]["tool"]["name"]) == ("", "pay")
        assert (asked.data["type"], asked.data["content"]) == ("chunk", "")
        assert waiting == (await http.get(f"{RUNS}/{run_id}")).json()["data"]
        decide = f"{RUNS}/{run_id}/confirmations/{waiting['confirmationId']}"
        assert (await http.post(decide, json={"confirmed": False})).status_code == 200
        rest = [event.data["type"] async for event in events]

    assert rest == ["start", "chunk", "chunk", "chunk", "end"]


async def test_a_run_that_did_not_complete_ends_with_an_error_that_carries_it(
    http: httpx2.AsyncClient, echo: Instance
) -> None:
    async with asking(http, "fail") as reader:
        last = (await reader.rest())[-1]

    assert (last.data["type"], last.data["error"]) == ("error", "no money")
    assert (last.data["data"]["status"], last.data["data"]["data"]["reason"]) == ("failed", "broke")


async def test_a_client_of_today_reads_its_answer_at_port_7777(api: Server, echo: Instance, gate: Gate) -> None:
    gate.open.set()
    told = await asyncio.to_thread(_as_existing_clients_do, api)

    assert [event["type"] for event in told] == ["start", "chunk", "chunk", "chunk", "end"]
    assert "".join(event.get("content") or "" for event in told) == "one\ntvå three"


def _as_existing_clients_do(api: Server) -> list[dict[str, Any]]:
    """Post, post again as after a timeout, and read the stream line by line up to `end` or `error`."""
    url = urlsplit(api.agentos_url)
    headers = {
        "Accept": "application/json, text/plain, */*",
        "Content-Type": "application/json",
        "x-workspace-id": "acme",
        "x-correlation-id": f"contract-{time.time_ns()}",
        "Authorization": f"Bearer {api.token}",
    }
    body = {"message": "hi", "params": {}, "stream": True, "userId": "u1"}
    body["metadata"] = {"workspaceId": "acme", "correlationId": headers["x-correlation-id"]}
    answers = []
    for _ in range(2):
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE_S)
        connection.request("POST", "/agents/echo/runs", json.dumps(body), headers)
        response = connection.getresponse()
        answers.append(json.loads(response.read()))
        assert response.status in {200, 202}
        assert response.headers["content-type"].startswith("application/json")
        connection.close()
    assert answers[0]["runId"] == answers[1]["runId"]

    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE_S)
    connection.request("GET", f"/agents/echo/runs/{answers[0]['runId']}/stream", headers=headers | STREAM)
    response, told, buffer = connection.getresponse(), [], ""
    assert response.status == 200
    while not told or told[-1]["type"] not in {"end", "error"}:
        buffer += response.read1().decode()
        *lines, buffer = buffer.split("\n")
        told += [json.loads(line[len("data: ") :]) for line in lines if line.startswith("data: ")]
    connection.close()
    return told


# --- how they end ----------------------------------------------------------------------------------------------------


async def test_a_run_is_not_cancelled_by_a_reader_who_leaves(
    http: httpx2.AsyncClient, echo: Instance, gate: Gate
) -> None:
    async with asking(http, "hello") as reader:
        run_id = (await reader.told(2))[0].data["runId"]
    gate.open.set()

    async with following(http, run_id) as again:
        assert (await again.rest())[-1].data["type"] == "end"


@contextmanager
def beside(api: Server, home: Path, nats_url: str, **settings: str) -> Iterator[Server]:
    """Run another API on the same record: one of a record of its own would answer the instance's claims, too."""
    with running(home, nats_url, DATABASE_URL=f"sqlite:///{api.home / 'api.db'}", **settings) as other:
        # It listens before it has a connection to NATS.
        until(lambda: httpx2.get(f"{other.agentos_url}/ready", trust_env=False).is_success, "another API")
        yield other


def client_of(api: Server, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=api.url, headers=headers or api.headers, timeout=PATIENCE_S, trust_env=False)


async def test_no_run_is_accepted_that_could_not_be_streamed(nats_url: str, tmp_path: Path, peer: Peer) -> None:
    with running(tmp_path / "api", nats_url, OPMAS_API__MAX_STREAMS="0") as api:
        async with client_of(api) as client:
            refused = await client.post(RUNS, json={"message": "x"}, headers=STREAM)
            listed = await client.get("/api/v1/runs")

    assert (refused.status_code, refused.json()["error"]) == (503, "too_many_streams")
    assert listed.json()["total"] == 0


async def test_a_stream_ends_when_its_reader_s_token_has_run_out(
    api: Server, nats_url: str, tmp_path: Path, echo: Instance, gate: Gate
) -> None:
    with beside(api, tmp_path / "api", nats_url, JWT_SECRET=SECRET, OPMAS_AUTH__JWT__LEEWAY="0") as other:
        claims = {"sub": "ann", "workspaceId": "acme", "exp": int(time.time()) + 3}
        brief = {"Authorization": "Bearer " + jwt.encode(claims, SECRET)}
        async with client_of(other, brief) as client, asking(client, "hello") as reader:
            told = await reader.told(3)
            await asyncio.sleep(max(0.0, int(claims["exp"]) - time.time()) + 0.1)
            gate.open.set()
            rest = await reader.rest()

    assert [event.data["type"] for event in told] == ["start", "chunk", "chunk"]
    assert rest == []
    assert any("credentials" in comment for comment in reader.comments)


async def test_an_api_that_is_stopped_closes_its_streams_and_its_readers_go_on_elsewhere(
    api: Server, http: httpx2.AsyncClient, nats_url: str, tmp_path: Path, echo: Instance, gate: Gate
) -> None:
    with beside(api, tmp_path / "api", nats_url) as other:
        async with client_of(other) as client, asyncio.TaskGroup() as tasks, asking(client, "hello") as reader:
            told = await reader.told(3)
            waiting = {"json": {"message": "x"}, "params": {"wait": 60}}
            waiter = tasks.create_task(client.post(RUNS, **waiting), name="wait")
            await asyncio.sleep(0.3)
            other.process.send_signal(signal.SIGTERM)
            assert await reader.rest() == []
        assert waiter.result().status_code == 202
        assert await asyncio.to_thread(other.process.wait, 10) == 0
    gate.open.set()

    async with following(http, told[0].data["runId"], **{"Last-Event-ID": told[-1].id}) as resumed:
        rest = await resumed.rest()
    assert [event.id for event in told + rest] == ["1", "2", "3", "4", "5"]
    assert rest[-1].data["type"] == "end"


async def test_five_hundred_streams_of_one_run_are_all_told(
    api: Server, http: httpx2.AsyncClient, echo: Instance, gate: Gate
) -> None:
    run_id = await begun(http)
    url = urlsplit(api.url)
    head = f"GET {RUNS}/{run_id}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode()

    async def follow(started: asyncio.Semaphore) -> bytes:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            writer.write(head)
            text = await reader.readuntil(b'"chunk"')
            started.release()
            return text + await reader.readuntil(b'"end"')
        finally:
            writer.close()
            await writer.wait_closed()

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        started = asyncio.Semaphore(0)
        readers = [tasks.create_task(follow(started), name=f"reader {n}") for n in range(500)]
        for _ in readers:
            await started.acquire()
        gate.open.set()

    assert {reader.result().count(b"data: ") for reader in readers} == {5}
