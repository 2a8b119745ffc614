"""Runs on a whole node: in order, within limits, apart by workspace, and followed over an API that is stopped."""

import asyncio
import itertools
import signal
from collections import Counter

from opmas.client import OpmasClient
from tests.e2e.rascals import Caller, at_once
from tests.node import kill, until

# --- asked -----------------------------------------------------------------------------------------------------------


def test_fifty_requests_with_one_key_are_one_run_and_in_another_workspace_another(caller: Caller) -> None:
    answers = at_once(lambda _: caller.run("rascal", "hello", key="fifty"), range(50))
    other = caller.of_workspace("elsewhere").run("rascal", "hello", key="fifty")

    assert {(answer.status, answer.body["status"]) for answer in [*answers, other]} == {(200, "completed")}
    runs = {answer.body["runId"] for answer in answers}
    assert len(runs) == 1
    assert Counter(answer.headers["Idempotent-Replayed"] for answer in answers) == {None: 1, "true": 49}
    assert other.body["runId"] not in runs


def test_a_retry_under_a_correlation_id_joins_a_run_that_goes_on_and_not_one_that_is_over(caller: Caller) -> None:
    def ask() -> str:
        body = {"message": "say", "params": {"seconds": 0.5}}
        return str(caller.call("POST", "/agents/rascal/runs", body, x_correlation_id="retried").body["runId"])

    first, second = ask(), ask()
    assert first == second
    until(lambda: caller.get(f"/agents/rascal/runs/{first}").body["status"] == "completed")

    assert ask() != first


def test_twenty_runs_of_one_session_keep_their_order(caller: Caller) -> None:
    answers = at_once(lambda number: caller.run("rascal", f"m{number}", sessionId="twenty"), range(20))

    assert {(answer.status, answer.body["status"]) for answer in answers} == {(200, "completed")}
    runs = sorted((answer.body for answer in answers), key=lambda run: str(run["runId"]))  # an id tells the time
    times = [(run["metadata"]["startedAt"], run["metadata"]["completedAt"]) for run in runs]
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(times))
    said = caller.get("/api/v1/sessions/twenty").body
    assert [turn["content"] for turn in said["messages"][::2]] == [run["content"] for run in runs]


def test_a_busy_session_refuses_or_interrupts(caller: Caller) -> None:
    first = {agent: caller.begin(agent, "loop", sessionId=f"busy-{agent}") for agent in ("rejecting", "interrupting")}
    until(lambda: all(caller.get(path).body["status"] == "running" for path in first.values()))

    refused = caller.run("rejecting", "hello", sessionId="busy-rejecting")
    taken = caller.run("interrupting", "hello", sessionId="busy-interrupting")

    assert (refused.status, refused.body["error"]) == (409, "session_busy")
    assert (taken.status, taken.body["content"]) == (200, "hello")
    assert caller.get(first["interrupting"]).reason == "cancelled"
    assert caller.get(first["rejecting"]).body["status"] == "running"
    caller.call("POST", f"{first['rejecting']}/cancel")


def test_a_run_stops_at_its_limits(caller: Caller) -> None:
    asked = [("limited", "loop"), ("limited", "use_tokens"), ("limited", "use_tools"), ("blocking", "x")]

    ended = at_once(lambda given: caller.run(*given), asked)

    assert [answer.reason for answer in ended] == ["time_limit", "token_limit", "tool_limit", "time_limit"]
    assert "never said" not in str(ended[3].body)
    assert caller.run("limited", "hello").body["content"] == "hello"


def test_what_was_said_in_a_deleted_session_is_gone_at_once(caller: Caller) -> None:
    run = caller.run("rascal", "hello", sessionId="secret").body["runId"]

    assert caller.call("DELETE", "/api/v1/sessions/secret").status == 204
    assert [caller.get(path).status for path in (f"/agents/rascal/runs/{run}", f"/api/v1/runs/{run}")] == [404, 404]


# --- agents that are not there ---------------------------------------------------------------------------------------


def test_an_agent_that_is_stopped_takes_no_runs_and_one_that_falls_takes_them_for_later(caller: Caller) -> None:
    looping = caller.begin("rejecting", "loop")
    until(lambda: caller.get(looping).body["status"] == "running")
    assert caller.node.api("POST", "/api/v1/agents/rejecting/stop?wait=30")[0] == 200
    refused = caller.run("rejecting", "hello")
    assert (refused.status, refused.body["error"]) == (409, "agent_not_running")
    assert "opmas start rejecting" in refused.body["hint"]
    assert caller.get(looping).reason == "stopping"

    assert caller.node.api("POST", "/api/v1/agents/rejecting/start?wait=30")[0] == 200
    kill(caller.node.running("rejecting")["rejecting-0"])
    taken = caller.run("rejecting", "hello")
    assert (taken.status, taken.body["content"]) == (200, "hello")


# --- who may see what ------------------------------------------------------------------------------------------------


def test_two_workspaces_see_nothing_of_each_other(caller: Caller) -> None:
    ours, theirs = caller.of_workspace("ours"), caller.of_workspace("theirs")
    file = ours.store("a.txt", b"a").body["fileId"]
    waits = ours.run("rascal", "ask", sessionId="same", files=[file]).body
    run, confirmation = f"/agents/rascal/runs/{waits['runId']}", waits["data"]["confirmationId"]
    assert ours.get("/api/v1/sessions/same").status == 200

    hidden = [
        ("GET", run, None),
        ("GET", f"{run}/stream", None),
        ("GET", f"/api/v1/runs/{waits['runId']}", None),
        ("POST", f"{run}/cancel", None),
        ("POST", f"{run}/confirmations/{confirmation}", {"confirmed": True}),
        ("GET", "/api/v1/sessions/same", None),
        ("GET", "/api/v1/sessions/same/messages", None),
        ("GET", "/api/v1/sessions/same/export", None),
        ("PATCH", "/api/v1/sessions/same", {"title": "mine"}),
        ("DELETE", "/api/v1/sessions/same", None),
        ("GET", f"/api/v1/files/{file}", None),
        ("POST", "/agents/rascal/runs", {"message": "read", "files": [file]}),
    ]
    assert [(path, theirs.call(method, path, body).status) for method, path, body in hidden] == [
        (path, 404) for _, path, _ in hidden
    ]
    assert theirs.get("/api/v1/runs").body["total"] == theirs.get("/api/v1/sessions").body["total"] == 0
    assert theirs.get("/api/v1/runs/audit").body["audit"] == []
    assert ours.call("GET", run, x_workspace_id="theirs").status == 403
    assert theirs.run("rascal", "hello", sessionId="same").body["content"] == "hello"
    assert ours.get("/api/v1/sessions/same").body["runCount"] == 1
    assert ours.call("POST", f"{run}/confirmations/{confirmation}", {"confirmed": True}).status == 200


def test_no_credential_of_a_caller_reaches_an_agent(caller: Caller) -> None:
    somebody = caller.of_workspace("careful")

    told = str(somebody.run("rascal", "tell_all").body)

    assert "AGENT_ID" in told
    assert somebody.token not in told
    assert caller.token not in told


# --- an API that is stopped ------------------------------------------------------------------------------------------


async def test_a_stream_goes_on_without_gap_or_duplicate_over_an_api_that_is_stopped(caller: Caller) -> None:
    node, count = caller.node, 300
    before = node.pid("api")
    url = f"http://127.0.0.1:{node.environment['OPMAS_API__PORT']}"
    async with OpmasClient(url, node.token) as client:
        run = await client.invoke("rascal", "count", params={"to": count})
        told = []
        async with asyncio.timeout(60):
            async for event in client.stream("rascal", run.run_id):
                told.append(event)
                if len(told) == 20:
                    kill(before, signal.SIGTERM)
                    # With the stream open: the API must not wait for its reader.
                    await asyncio.to_thread(until, lambda: node.pid("api") != before, "another API", 10)

    assert "".join(event.content or "" for event in told) == "".join(f"{number} " for number in range(count))
    assert told[-1].is_last
    await asyncio.to_thread(until, lambda: node.api("GET", "/readyz")[0] == 200, "the API to be ready")
