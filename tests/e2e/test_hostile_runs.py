"""What broken callers and broken agents do to runs: each is told what was wrong, and nobody else notices."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from tests.e2e.rascals import Answer, Caller, at_once
from tests.node import PATIENCE_S, until

KEYS = {"statusCode", "message", "error", "correlationId", "hint"}
RUNS = "/agents/rascal/runs"
MEGABYTE = 1 << 20


def as_ever(caller: Caller) -> None:
    """Check that the agent that was ill-treated takes runs."""
    assert caller.run("rascal", "hello").body["content"] == "hello"


# --- broken callers --------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b'{"message": "x", "params": {"a": ' + b"[" * depth + b"]" * depth + b"}}"


@pytest.mark.parametrize(
    ("body", "status"),
    [(nested(97), 200), (nested(101), 400), (nested(197), 400), (nested(900), 400), (nested(50_000), 400),
     (b'{"message": "a\\u0000b", "params": {"\\u0000": "\\u0000"}}', 200), (b'{"message": "\\ud800"}', 400),
     (b'{"message": "x", "params": {"a": ["\\udfff"]}}', 400), (b'{"message": "x", "params": {"\\ud800": 1}}', 400),
     (b'{"message": "x", "files": ["\\ud800"]}', 400), (b'{"message": "x", "metadata": {"a": "\\ud800"}}', 400),
     (b'{"message": "x", "params": {"a": NaN}}', 400), (b'{"message": "x", "params": {"a": -1e999}}', 400),
     (b'{"message": "\xff"}', 400), (b'{"message": "x", "sessionId": "../\\u0000"}', 200),
     (b'{"message": "x", "userId": 1}', 400), (b'{"message": "x", "files": ["' + b'", "' * 20 + b'"]}', 400),
     (json.dumps({"message": "x", "params": dict.fromkeys(map(str, range(10_000)), "v")}).encode(), 200),
     (json.dumps({"message": "m" * 500_000}).encode(), 200), (json.dumps({"message": "\x01" * 87_000}).encode(), 200),
     (json.dumps({"message": "x" * 8 * MEGABYTE}).encode(), 413)],
    ids=lambda given: repr(given[-40:]) if isinstance(given, bytes) else None,
)  # fmt: skip
def test_a_body_is_done_or_refused_and_never_left_lying(caller: Caller, body: bytes, status: int) -> None:
    answer = caller.call("POST", f"{RUNS}?wait=30", body)

    assert answer.status == status, str(answer.body)[:500]
    if status == 200:
        said = json.loads(body)["message"].replace("\0", "\ufffd")  # which PostgreSQL could not keep
        assert (answer.body["status"], answer.body["content"]) == ("completed", said)
    else:
        assert set(answer.body) == KEYS
    as_ever(caller)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", RUNS, 405), ("PUT", RUNS, 405), ("OPTIONS", RUNS, 405), ("DELETE", f"{RUNS}/x", 405),
     ("GET", f"{RUNS}/x/cancel", 405), ("POST", f"{RUNS}/x/stream", 405), ("POST", f"{RUNS}/", 404),
     ("GET", f"{RUNS}/x/", 404), ("GET", f"{RUNS}/..%2f..%2fx", 404), ("GET", f"{RUNS}/%00", 404), ("GET", "/", 404),
     ("GET", f"{RUNS}/{'x' * 5_000}", 404), ("POST", "/health", 404), ("POST", "/agents/nobody/runs", 404)],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_our_shape(caller: Caller, method: str, path: str, status: int) -> None:
    answer = caller.call(method, path, {"message": "x"})

    assert (answer.status, set(answer.body)) == (status, KEYS)
    assert len(str(answer.body)) < 1_000


def test_probes_answer_head_as_well(caller: Caller) -> None:
    assert {path: caller.call("HEAD", path).status for path in ("/health", "/ready")} == {"/health": 200, "/ready": 200}


def test_files_are_refused_or_kept_under_harmless_names(caller: Caller) -> None:
    kept = [caller.store("empty.txt", b""), caller.store("../../etc/passwd", b"root")]

    assert [(one.status, one.body["name"], one.body["size"]) for one in kept] == [
        (201, "empty.txt", 0),
        (201, "passwd", 4),
    ]
    assert caller.run("rascal", "x", files=[one.body["fileId"] for one in kept]).body["status"] == "completed"
    assert caller.store("a.sh", b"#!", "application/x-sh").status == 400
    assert caller.store("large.txt", b"x" * 30 * MEGABYTE).status == 413


# --- cancelled and decided -------------------------------------------------------------------------------------------


def test_a_cancel_that_races_the_end_agrees_with_the_record(caller: Caller) -> None:
    def race(number: int) -> tuple[Answer, str]:
        path = caller.begin("rascal", "say", params={"seconds": 0.002 * (number % 5)})
        for _ in range(number % 4):
            caller.get(path)
        return caller.call("POST", f"{path}/cancel"), path

    ends = set()
    for answer, path in at_once(race, range(100)):
        events = caller.events(path)
        assert [event["type"] in {"end", "error"} for event in events].count(True) == 1
        told, run = events[-1]["data"], caller.get(path).body
        assert told["status"] == run["status"]
        assert answer.status == 200
        assert answer.body["status"] in {"pending", "running", run["status"]}
        ends.add(run["status"])
    assert ends <= {"completed", "failed"}
    as_ever(caller)


def asked(caller: Caller, **params: Any) -> tuple[str, str]:
    run = caller.run("rascal", "ask", params=params).body
    path = f"{RUNS}/{run['runId']}"
    return path, f"{path}/confirmations/{run['data']['confirmationId']}"


def test_of_twenty_decisions_one_counts(caller: Caller) -> None:
    run, decide = asked(caller)

    answers = at_once(lambda number: caller.call("POST", decide, {"confirmed": bool(number % 2)}), range(20))

    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    until(lambda: caller.get(run).body["status"] == "completed")
    audit = caller.get("/api/v1/runs/audit?limit=1000").body["audit"]
    first, second = (row["action"] for row in audit if row["runId"] in run)
    assert first == "run"
    assert second in {"confirm", "reject"}


def test_a_decision_is_for_a_run_that_waits_for_it(caller: Caller) -> None:
    run, decide = asked(caller)
    _, other = asked(caller)
    yes = {"confirmed": True}

    assert caller.call("POST", f"{run}/confirmations/{other.rpartition('/')[2]}", yes).status == 404
    mistakes: list[object] = [{}, [], {"confirmed": 1}, {"confirmed": "yes"}, {"confirmed": True, "arguments": [1]}]
    for wrong in mistakes:
        assert caller.call("POST", decide, wrong).status == 400
    assert caller.call("POST", decide, {"confirmed": True, "arguments": {"sum": "\ud800"}}).status == 400
    assert caller.call("POST", f"{run}/cancel").reason == "cancelled"
    assert caller.call("POST", decide, yes).status == 409

    late, decide_late = asked(caller, within=0.2)
    until(lambda: caller.get(late).body["status"] == "failed")
    assert caller.get(late).reason == "confirmation_expired"
    assert caller.call("POST", decide_late, yes).status == 409


def test_edited_arguments_that_no_instance_could_be_given_are_refused_and_hold_nobody_up(caller: Caller) -> None:
    waits = caller.run("rascal", "keep_much", params={"more": "p" * 450_000}).body
    decide = f"{RUNS}/{waits['runId']}/confirmations/{waits['data']['confirmationId']}"

    refused = caller.call("POST", decide, {"confirmed": True, "arguments": {"sum": "9" * 500_000}})
    assert (refused.status, refused.body["error"]) == (413, "too_large")
    as_ever(caller)
    assert caller.call("POST", decide, {"confirmed": True, "arguments": {"sum": 8}}).status == 200
    until(lambda: caller.get(f"{RUNS}/{waits['runId']}").body.get("content") == "True {'sum': 8}")


# --- broken agents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "reason"),
    [("fail", "failed"), ("bytes", "invalid_request"), ("generator", "invalid_request"), ("no_json", "invalid_request"),
     ("circle", "invalid_request"), ("deep", "invalid_request"), ("much_data", "too_large"),
     ("nothing_sent", "invalid_request"), ("no_number", "invalid_request")],
)  # fmt: skip
def test_a_handler_that_answers_nonsense_fails_its_run_and_says_why(caller: Caller, does: str, reason: str) -> None:
    ended = caller.run("rascal", does)

    assert (ended.status, ended.body["status"], ended.reason) == (200, "failed", reason)
    assert 10 < len(ended.body["error"]) <= 2_000
    as_ever(caller)


def test_an_answer_of_five_megabytes_is_told_whole(caller: Caller) -> None:
    run = caller.run("rascal", "much_text").body

    assert run["content"] == "z" * 5_000_000
    chunks = [event for event in caller.events(f"{RUNS}/{run['runId']}") if event["type"] == "chunk"]
    assert "".join(chunk["content"] for chunk in chunks) == run["content"]


def test_text_that_is_none_is_told_as_far_as_it_goes(caller: Caller) -> None:
    assert caller.run("rascal", "odd_text").body["content"] == "a\ufffdb?c"


def test_a_run_that_kills_its_process_is_interrupted_or_tried_three_times_and_called_poison(caller: Caller) -> None:
    assert caller.run("rascal", "die").reason == "interrupted"
    as_ever(caller)

    died = caller.run("deadly", "die", wait=60)

    assert died.reason == "poison"
    begun = [line for line in caller.node.lines("deadly") if line.startswith(f"begun {died.body['runId']}")]
    assert [line[-1] for line in begun] == ["1", "2", "3"]
    until(lambda: caller.run("deadly", "hello").body.get("content") == "hello")


# --- readers ---------------------------------------------------------------------------------------------------------


@contextmanager
def reader(caller: Caller, path: str) -> Iterator[socket.socket]:
    """Open a stream, read that it began, and read no more."""
    port = int(caller.node.environment["OPMAS_API__AGENTOS_PORT"])
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", port))
        head = f"GET {path}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 200 " in connection.recv(200)
        yield connection


def test_five_hundred_idle_readers_cost_little_and_hold_nobody_up(caller: Caller) -> None:
    api = psutil.Process(caller.node.pid("api"))
    run = caller.begin("rascal", "loop")
    until(lambda: caller.get(run).body["status"] == "running")
    before = api.memory_info().rss
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(reader(caller, run))

        as_ever(caller)
        assert api.memory_info().rss - before < 500 * 200_000  # some 50 KB each were measured
    assert caller.call("POST", f"{run}/cancel").status == 200


def test_a_reader_that_reads_nothing_holds_nobody_up_and_then_misses_nothing(caller: Caller) -> None:
    run = f"{RUNS}/{caller.run('rascal', 'much_text').body['runId']}"
    with reader(caller, run) as slow:
        as_ever(caller)
        text = b""
        while b'"type":"end"' not in text[-100_000:] and (piece := slow.recv(1 << 20)):
            text += piece

    ids = [int(line[len(b"id: ") :]) for line in text.splitlines() if line.startswith(b"id: ")]
    assert ids == sorted(set(ids))
    assert text.count(b"z") > 5_000_000


def test_a_client_that_is_gone_leaves_its_run_alone(caller: Caller) -> None:
    run = caller.begin("rascal", "say", params={"seconds": 0.3})
    with reader(caller, run):
        pass

    until(lambda: caller.get(run).body["status"] == "completed")


# --- at the terminal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [(("run", "nobody", "x"), 3), (("run", "rascal", "x", "--param", "a=1e400"), 2),
     (("run", "rascal", "\udcff"), 2), (("run", "rascal", "x", "--wait", "nan"), 2), (("runs", "show", "\udcff"), 2),
     (("runs", "confirm", "none"), 3), (("sessions", "show", "a?b#c%"), 3), (("files", "put", "/"), 2)],
)  # fmt: skip
def test_wrong_words_are_answered_and_never_with_a_traceback(caller: Caller, words: tuple[str, ...], code: int) -> None:
    ended = caller.node.cli(*words)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("opmas: ")
    assert "Traceback" not in ended.stderr
