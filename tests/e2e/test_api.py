"""The management API with a real manager: what a client of it does in a day, and what it sees when the parts fail."""

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.node import PATIENCE_S, Node, kill, until, write_package

COUNTING = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a program that counts."""
    node = Node(tmp_path_factory.mktemp("api"))
    write_package(node.packages, "counter", heartbeat="process", command=COUNTING)
    try:
        node.up().running("counter")
        yield node
    finally:
        node.close()


class Stream:
    """A stream of server-sent events, read in a blocking way."""

    def __init__(self, node: Node, path: str, last_id: str = "") -> None:
        port = int(node.environment["OPMAS_API__PORT"])
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {node.token}", "Accept": "text/event-stream"}
        self._connection.request("GET", path, headers=headers | ({"Last-Event-ID": last_id} if last_id else {}))
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.last_id = last_id

    def next(self) -> dict[str, Any]:
        """Return what the next frame tells."""
        data = ""
        while line := self._answer.readline().decode():
            if line.startswith("id: "):
                self.last_id = line[4:].strip()
            if line.startswith("data: "):
                data = line[6:]
            if line == "\n" and data:
                found: dict[str, Any] = json.loads(data)
                return found
        raise EOFError

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@contextlib.contextmanager
def stream(node: Node, path: str, last_id: str = "") -> Iterator[Stream]:
    found = Stream(node, path, last_id)
    try:
        yield found
    finally:
        found.close()


def numbers(lines: Stream, count: int) -> list[int]:
    return [int(lines.next()["line"].split()[1]) for _ in range(count)]


def test_an_agent_is_registered_watched_explained_changed_and_deleted(one: Node) -> None:
    status, made = one.api("POST", "/api/v1/agents", {"name": "Second", "package": "counter", "labels": {"team": "a"}})
    assert (status, made["id"], made["labels"]) == (201, "second", {"team": "a"})
    assert one.api("POST", "/api/v1/agents", {"name": "Second", "package": "counter"})[0] == 409
    one.running("second")

    status, batch = one.api("POST", "/api/v1/agents/batch?wait=30", {"action": "stop", "labels": {"team": "a"}})
    assert [(result["agent_id"], result["status"]) for result in batch["results"]] == [("second", "success")]
    assert one.api("GET", "/api/v1/agents?status=stopped&search=SEC")[1]["total"] == 1
    status, why = one.api("GET", "/api/v1/agents/second/why")
    assert (status, why["status"]) == (200, "stopped")

    status, changed = one.api("PUT", "/api/v1/agents/second", {"description": "counts", "replicas": 2})
    assert (status, changed["description"], changed["replicas"]) == (200, "counts", 2)
    assert one.api("POST", "/api/v1/agents/second/disable")[0] == 200
    assert one.api("POST", "/api/v1/agents/second/start")[0] == 409

    assert one.api("DELETE", "/api/v1/agents/second") == (204, {})
    assert one.api("GET", "/api/v1/agents/second")[0] == 404

    def audited() -> bool:
        rows = one.api("GET", "/api/v1/audit?limit=1000")[1]["audit"]
        commands = [row["command"] for row in rows if row["agent_id"] == "second"]
        return {"register", "stop", "update", "disable", "start", "delete"} <= set(commands)

    until(audited, "the audit to tell of every command")


def test_a_followed_log_resumes_without_a_gap_and_without_a_repetition(one: Node) -> None:
    with stream(one, "/api/v1/agents/counter/logs?follow=true&tail=1") as lines:
        seen = numbers(lines, 5)
    with stream(one, "/api/v1/agents/counter/logs?follow=true&tail=1", lines.last_id) as lines:
        seen += numbers(lines, 5)

    assert seen == list(range(seen[0], seen[0] + 10))


@pytest.mark.parametrize("part", ["manager", "nats-server"])
def test_streams_outlive_a_killed_part_and_the_api_recovers_alone(one: Node, part: str) -> None:
    with (
        stream(one, "/api/v1/agents/counter/logs?follow=true&tail=1") as lines,
        stream(one, "/api/v1/events") as events,
    ):
        seen = numbers(lines, 2)
        kill(one.pid(part))
        until(lambda: one.api("GET", "/readyz")[0] == 200 and one.api("GET", "/api/v1/agents")[0] == 200)
        seen += numbers(lines, 30)
        one.api("POST", "/api/v1/agents/counter/restart")
        while events.next()["cause"]["command"] != "restart":
            pass

    assert seen == list(range(seen[0], seen[0] + 32))


def test_a_frozen_manager_is_unavailable_and_no_request_hangs(one: Node) -> None:
    pid = one.pid("manager")
    kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            refusals = list(pool.map(lambda path: one.api("GET", path), ("/api/v1/agents", "/api/v1/nodes", "/readyz")))
        assert one.api("GET", "/health")[0] == 200
    finally:
        kill(pid, signal.SIGCONT)

    assert [status for status, _ in refusals] == [503, 503, 503]
    assert {body["error"] for _, body in refusals} == {"manager_unavailable"}
    until(lambda: one.api("GET", "/api/v1/agents")[0] == 200)


def test_a_database_that_answers_nothing_is_named_and_what_needs_none_goes_on(
    tmp_path: Path, postgres: Any, postgres_url: str
) -> None:
    node = Node(tmp_path, OPMAS_DATABASE__URL=postgres_url)
    write_package(node.packages, "counter", heartbeat="process", command=COUNTING)
    try:
        node.up().running("counter")
        postgres.pause()
        with ThreadPoolExecutor() as pool:
            command = pool.submit(node.api, "POST", "/api/v1/agents/counter/stop")
            events = pool.submit(node.api, "GET", "/api/v1/events")
            audit = pool.submit(node.api, "GET", "/api/v1/audit")
            assert node.api("GET", "/api/v1/agents/counter")[1]["status"] == "running"
            assert node.api("GET", "/api/v1/agents/counter/logs")[0] == 200
        postgres.resume()
        until(lambda: node.api("POST", "/api/v1/agents/counter/stop?wait=30")[0] == 200)
    finally:
        postgres.resume()
        node.close()

    assert (command.result()[0], command.result()[1]["error"]["code"]) == (503, "database_unavailable")
    assert (events.result()[0], events.result()[1]["error"]) == (503, "database_unavailable")
    assert (audit.result()[0], audit.result()[1]["error"]) == (503, "database_unavailable")
