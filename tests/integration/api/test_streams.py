"""Streams of server-sent events: they tell everything once, outlive restarts, end with the API, and cost little."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from opmas.wire.errors import AgentNotFound
from tests.integration.api.journal import Journal, keep
from tests.integration.api.peer import Peer, agent, serving
from tests.integration.api.server import Server, running

PATIENCE_S = 30.0
LOGS = "/api/v1/agents/echo/logs"
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def journal(peer: Peer) -> Journal:
    return keep(peer)


class Reader:
    """Reads a stream frame by frame."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self.last_id = ""

    async def frame(self) -> dict[str, str]:
        """Return the next frame that has data."""
        found: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith("id: "):
                self.last_id = value
            if not line and "data" in found:
                return found
            if line and not line.startswith(":"):
                found[name] = value
        raise EOFError

    async def told(self, count: int, key: str = "line") -> list[Any]:
        """Return what the next frames tell."""
        async with asyncio.timeout(PATIENCE_S):
            return [json.loads((await self.frame())["data"])[key] for _ in range(count)]

    async def end(self) -> dict[str, str]:
        """Return the code of the last frame, and see that it is the last."""
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.frame()
            with pytest.raises(EOFError):
                await self.frame()
        assert frame["event"] == "end"
        return json.loads(frame["data"])["code"]


@contextlib.asynccontextmanager
async def following(
    http: httpx2.AsyncClient, path: str, headers: dict[str, str] | None = None, **params: Any
) -> AsyncIterator[Reader]:
    async with http.stream("GET", path, params=params, headers=headers or {}) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        yield Reader(response)


# --- what is told ---------------------------------------------------------------------------------------------------


async def test_followed_logs_begin_with_the_last_lines_and_go_on(http: httpx2.AsyncClient, journal: Journal) -> None:
    journal.write("one", "two", "three")

    async with following(http, LOGS, follow=True, tail=2) as reader:
        assert await reader.told(2) == ["two", "three"]
        journal.write("four")
        assert await reader.told(1) == ["four"]


@pytest.mark.parametrize("count", [1, 3, 4])
async def test_a_log_stream_cut_anywhere_goes_on_where_it_was(
    http: httpx2.AsyncClient, journal: Journal, count: int
) -> None:
    async with following(http, LOGS, follow=True, after="0") as reader:
        journal.write("1", "2", "3", "4", "5")
        first = await reader.told(count)
    journal.write("6")

    async with following(http, LOGS, {"Last-Event-ID": reader.last_id}, follow=True, tail=1) as reader:
        assert first + await reader.told(6 - count) == ["1", "2", "3", "4", "5", "6"]


async def test_filters_of_a_followed_log_travel_with_every_question(
    http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    journal.write("one")
    async with following(http, LOGS, follow=True, grep="o", stream="stdout", tail=1) as reader:
        await reader.told(1)
        journal.write("go")
        await reader.told(1)

    asked = [seen.params for seen in peer.seen if "grep" in seen.params]
    assert len(asked) >= 2
    assert all((params["grep"], params["stream"]) == ("o", "stdout") for params in asked)
    assert not any("follow" in params for params in asked)


async def test_events_are_streamed_to_who_accepts_streams_and_can_be_resumed(
    http: httpx2.AsyncClient, journal: Journal
) -> None:
    early = journal.happen("echo", "other", "echo")
    async with following(http, "/api/v1/events", STREAM, limit=2) as reader:
        assert await reader.told(2, "id") == early[1:]
        now = journal.happen("other")
        assert await reader.told(1, "id") == now
    late = journal.happen("echo", "echo")

    async with following(http, "/api/v1/events", STREAM | {"Last-Event-ID": reader.last_id}) as reader:
        assert await reader.told(2, "id") == late
    assert (await http.get("/api/v1/events")).json()["next"] == late[-1]


async def test_followers_of_one_agents_events_hear_of_no_other(
    http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    journal.happen("other")
    async with following(http, "/api/v1/agents/echo/events", follow=True) as reader:
        _, one, _, two = journal.happen("other", "echo", "other", "echo")
        assert await reader.told(2, "id") == [one, two]


async def test_what_is_wrong_is_an_http_error_and_not_a_broken_stream(
    http: httpx2.AsyncClient, journal: Journal
) -> None:
    asked = {
        "/api/v1/agents/nobody/events?follow=true": 404,
        "/api/v1/agents/a.b/logs?follow=true": 404,
        f"{LOGS}?follow=perhaps": 400,
    }
    answers = {path: await http.get(path) for path in asked}
    answers["cursor"] = await http.get(f"{LOGS}?follow=true", headers={"Last-Event-ID": "1~x"})
    answers["id"] = await http.get("/api/v1/events", headers=STREAM | {"Last-Event-ID": "seven"})

    assert {path: answer.status_code for path, answer in answers.items()} == asked | {"cursor": 400, "id": 400}


# --- how long it lives ----------------------------------------------------------------------------------------------


async def test_the_stream_of_a_deleted_agent_ends_and_says_so(
    http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    journal.write("last words")
    async with following(http, LOGS, follow=True) as reader:
        await reader.told(1)
        peer.answers["logs"] = AgentNotFound("there is no agent 'echo'")

        assert await reader.end() == "agent_not_found"


async def test_a_stream_outlives_an_absent_manager_and_misses_nothing(
    http: httpx2.AsyncClient, api: Server, nats_url: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(nats_url) as first:
            journal = keep(first)
            journal.write("before")
            reader = await stack.enter_async_context(following(http, LOGS, follow=True))
            await reader.told(1)
        journal.write("meanwhile")
        async with serving(nats_url) as second:
            second.answers |= {"logs": journal.answer_logs}
            assert await reader.told(1) == ["meanwhile"]


async def test_sigterm_ends_open_streams_at_once_and_tells_them(tmp_path: Path, nats_url: str, peer: Peer) -> None:
    keep(peer).write("one")
    with running(tmp_path, nats_url, OPMAS_API__SHUTDOWN_TIMEOUT="60") as api:
        async with httpx2.AsyncClient(base_url=api.url, headers=api.headers, timeout=30, trust_env=False) as http:
            await _ready(http)
            async with following(http, LOGS, follow=True) as logs, following(http, "/api/v1/events", STREAM) as events:
                await logs.told(1)
                api.process.send_signal(signal.SIGTERM)
                assert await logs.end() == await events.end() == "shutting_down"
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.to_thread(api.process.wait) == 0


async def _ready(http: httpx2.AsyncClient) -> None:
    await _until(http, "/readyz", '"ready":true')


async def _until(http: httpx2.AsyncClient, path: str, word: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if word in (await http.get(path)).text:
                return
            await asyncio.sleep(0.05)


# --- what it costs --------------------------------------------------------------------------------------------------


async def test_there_are_no_more_streams_than_allowed_and_a_closed_one_makes_room(
    tmp_path: Path, nats_url: str, peer: Peer
) -> None:
    keep(peer).write("one")
    with running(tmp_path, nats_url, OPMAS_API__MAX_STREAMS="1") as api:
        async with httpx2.AsyncClient(base_url=api.url, headers=api.headers, timeout=30, trust_env=False) as http:
            await _ready(http)
            async with following(http, LOGS, follow=True):
                refused = await http.get(LOGS, params={"follow": True})
                assert (refused.status_code, refused.json()["error"]) == (503, "too_many_streams")
                assert (await http.get(LOGS)).status_code == 200
            await _streams(http, 0)
            async with following(http, LOGS, follow=True) as reader:
                assert await reader.told(1) == ["one"]


async def _streams(http: httpx2.AsyncClient, count: int) -> None:
    await _until(http, "/metrics", f"opmas_http_streams {count}.0")


async def test_five_hundred_idle_readers_are_one_question_and_all_are_told(
    api: Server, http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    first = journal.happen("echo")[0]
    port = int(api.url.rpartition(":")[2])
    request = f"GET /api/v1/events?after={first} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
    request += "Accept: text/event-stream\r\n\r\n"
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(2 * PATIENCE_S):
        readers = []
        for _ in range(500):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(_drop, writer)
            writer.write(request.encode())
            readers.append(reader)
        for reader in readers:
            await reader.readuntil(b"retry: 1000")
        peer.seen.clear()
        assert (await http.get("/health")).json()["status"] == "ok"
        news = journal.happen("echo")[0]
        for reader in readers:
            await reader.readuntil(f"id: {news}\n".encode())
        # Each asks once more when its stream has begun; then one asks for all.
        assert len([seen for seen in peer.seen if seen.name == "events"]) < 600
    await _streams(http, 0)


def _drop(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_reader_that_reads_nothing_takes_no_memory(
    api: Server, http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    process = psutil.Process(api.process.pid)
    async with following(http, LOGS, follow=True, after="0"):
        await asyncio.to_thread(_write, journal)
        before = process.memory_info().rss
        for _ in range(20):
            journal.lines.extend(journal.lines[:1000])
            assert (await http.get("/api/v1/agents/echo")).status_code == 200
            await asyncio.sleep(0.05)
        grown = process.memory_info().rss - before

    # 20 MB were written meanwhile.
    assert grown < 15_000_000


def _write(journal: Journal) -> None:
    journal.write(*(f"{number} {'x' * 400}" for number in range(1000)))


async def test_streams_of_agents_that_share_a_name_do_not_mix(
    http: httpx2.AsyncClient, peer: Peer, journal: Journal
) -> None:
    peer.known["two"] = agent("two")
    journal.write("one")
    async with following(http, LOGS, follow=True) as a, following(http, "/api/v1/agents/two/logs", follow=True) as b:
        assert await a.told(1) == await b.told(1) == ["one"]
