"""What callers see of runs: the four statuses, four kinds of stream events, and nothing that has no value."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from management_api.run_views import run_view, stream_event, summary, written
from management_api.store.rows import ConfirmationRow, RunRow
from management_api.streams import prefers_stream
from opmas.wire.messages import Progress
from opmas.wire.runs import (
    ConfirmationRequest,
    EventKind,
    RunEnd,
    RunEvent,
    RunSpec,
    RunStatus,
    ToolCall,
    Usage,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ASKED = ConfirmationRow(
    id="c1", run_id="r1", message="pay?", tool_name="pay", arguments={"amount": 9}, resume="paid", state=None,
    expires_at=NOON, requested_at=NOON,
)  # fmt: skip
WAITING = {
    "requiresConfirmation": True,
    "confirmationId": "c1",
    "confirmationDetails": {
        "toolName": "pay", "toolArgs": {"amount": 9}, "message": "pay?", "expiresAt": "2026-01-31T12:00:00Z",
    },
}  # fmt: skip


def run(status: RunStatus = RunStatus.PENDING, **fields: Any) -> RunRow:
    given: dict[str, Any] = {
        "id": "r1", "workspace": "w", "user_id": "ann", "agent_id": "echo", "session_id": "s1", "status": status,
        "message": "hi", "params": {}, "files": (), "metadata": {}, "correlation_id": "", "created_at": NOON,
        "start_by": NOON, "spec": RunSpec(),
    }  # fmt: skip
    return RunRow(**given | fields)


def shown(row: RunRow, **how: Any) -> Any:
    return json.loads(written(run_view(row, **how)))


def told(row: RunRow, kind: EventKind, **fields: Any) -> Any:
    event = stream_event(row, RunEvent(kind=kind, time=NOON, **fields))
    return json.loads(written(event)) if event else None


def test_what_has_no_value_is_left_out() -> None:
    assert shown(run()) == {"runId": "r1", "agentId": "echo", "sessionId": "s1", "status": "pending"}


@pytest.mark.parametrize(
    ("status", "outward"),
    [
        ("pending", "pending"),
        ("running", "running"),
        ("waiting_confirmation", "running"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "failed"),
        ("expired", "failed"),
        ("interrupted", "failed"),
    ],
)
def test_every_status_is_one_of_the_four_that_clients_know(status: str, outward: str) -> None:
    assert shown(run(RunStatus(status)))["status"] == outward
    assert (summary(run(RunStatus(status))).detail, summary(run(RunStatus(status))).status) == (status, outward)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "interrupted"])
def test_whatever_did_not_complete_says_why_to_people_and_to_programs(status: str) -> None:
    plain = shown(run(RunStatus(status)))
    exact = shown(run(RunStatus(status), error="no money", reason="poison", data={"partial": True}))

    assert plain["error"]
    assert plain["data"] == {"reason": status}
    assert (exact["error"], exact["data"]) == ("no money", {"partial": True, "reason": "poison"})


def test_a_completed_run_has_its_agent_s_own_data_and_what_was_said() -> None:
    usage = Usage(model="m", total_tokens=7)
    row = run(
        RunStatus.COMPLETED, content="", data={"reason": None}, usage=usage, started_at=NOON, correlation_id="x",
        ended_at=NOON + timedelta(seconds=1.5),
    )  # fmt: skip

    body = shown(row, messages=True)

    assert (body["content"], body["data"]) == ("", {"reason": None})
    assert body["metadata"] == {
        "startedAt": "2026-01-31T12:00:00Z", "completedAt": "2026-01-31T12:00:01.500000Z", "durationMs": 1500,
        "model": "m", "tokensUsed": 7, "correlationId": "x",
    }  # fmt: skip
    assert [(said["role"], said["content"]) for said in body["messages"]] == [("user", "hi"), ("assistant", "")]


def test_a_run_that_waits_for_a_human_runs_and_says_what_it_asks() -> None:
    body = shown(run(RunStatus.WAITING_CONFIRMATION, confirmation=ASKED))

    assert (body["status"], body["data"]) == ("running", WAITING)


def test_events_are_told_as_start_chunk_end_and_error_and_nothing_else() -> None:
    row = run(RunStatus.WAITING_CONFIRMATION, confirmation=ASKED)
    asked = ConfirmationRequest(id="c1", message="pay?", tool_name="pay", arguments={"amount": 9}, resume="paid")
    stamp = {"runId": "r1", "timestamp": "2026-01-31T12:00:00Z"}
    chunk = {**stamp, "type": "chunk", "content": ""}
    tool = ToolCall(id="t", name="pay", done=True, result="ok")

    assert told(row, EventKind.STARTED) == {**stamp, "type": "start"}
    assert told(row, EventKind.CHUNK, content="a\n", data={"k": None}) == {
        **chunk,
        "content": "a\n",
        "data": {"k": None},
    }
    assert told(row, EventKind.TOOL, tool=tool)["data"]["tool"]["result"] == "ok"
    assert told(row, EventKind.PROGRESS, progress=Progress(done=1, total=2))["data"]["progress"]["total"] == 2
    assert told(row, EventKind.CONFIRMATION, confirmation=asked) == {**chunk, "data": WAITING}
    assert told(row, EventKind.AGNO, agno="{}") is None


def test_an_earlier_confirmation_of_the_run_is_told_from_its_event() -> None:
    asked = ConfirmationRequest(id="c0", message="sure?", resume="x", expires_in_s=60)

    details = told(run(confirmation=ASKED), EventKind.CONFIRMATION, confirmation=asked)["data"]["confirmationDetails"]

    assert (details["message"], details["expiresAt"]) == ("sure?", "2026-01-31T12:01:00Z")


@pytest.mark.parametrize(("status", "kind"), [("completed", "end"), ("cancelled", "error"), ("expired", "error")])
def test_the_last_event_carries_the_run(status: str, kind: str) -> None:
    row = run(RunStatus(status), content="done" if kind == "end" else None)

    event = told(row, EventKind.END, end=RunEnd(status=RunStatus(status)))

    assert (event["type"], event["data"]) == (kind, shown(row))
    assert ("error" in event) is (kind == "error")


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("text/event-stream", True),
        ("text/event-stream, application/json", True),
        ("TEXT/EVENT-STREAM; charset=utf-8", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("application/json, text/plain, */*", False),
        ("application/json, text/event-stream", False),
        ("*/*, text/event-stream", False),
        ("text/event-stream;q=0.1, */*", False),
        ("text/event-stream;q=0", False),
        ("", False),
        (";;q=,", False),
    ],
)
def test_a_stream_is_the_answer_only_for_whoever_likes_it_best(accept: str, stream: bool) -> None:
    assert prefers_stream(accept) is stream
