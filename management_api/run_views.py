"""What HTTP callers see of runs, sessions and files: rows and events of the record put into the bodies of the contract.

Pure functions. Fields without a value are left out when a body is written, as existing clients expect.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import JsonValue
from starlette.responses import Response

from management_api.store.rows import ConfirmationRow, FileRow, RunAuditRow, RunRow, SessionRow
from opmas.wire.invocation import (
    AgentRunResponse,
    Body,
    ConfirmationDetails,
    FileView,
    OutwardStatus,
    RunAuditEntry,
    RunMessage,
    RunMetadata,
    RunSummary,
    SessionDetail,
    SessionView,
    StreamEvent,
)
from opmas.wire.runs import ConfirmationRequest, EventKind, RunEvent, RunStatus, Turn

# Enough to recognise a run in a list.
_SHOWN = 200

_ENDINGS = {
    RunStatus.FAILED: "the agent failed",
    RunStatus.CANCELLED: "the run was cancelled",
    RunStatus.EXPIRED: "the run expired: it was not started, or its confirmation not decided, in time",
    RunStatus.INTERRUPTED: "the run was interrupted: the instance that had it is gone; ask again if that does no harm",
}


def written(body: Body) -> str:
    """Write a body as one line of JSON, without the fields that have no value."""
    return body.model_dump_json(exclude_none=True)


def shown(body: Body, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a body: written once, and not checked against its own model as FastAPI would."""
    return Response(written(body), status, headers, "application/json")


def run_view(run: RunRow, *, messages: bool = False) -> AgentRunResponse:
    """Show a run as it is now; with `messages`, what was said in it too."""
    status = OutwardStatus.of(run.status)
    completed = status is OutwardStatus.COMPLETED
    return AgentRunResponse(
        run_id=run.id,
        agent_id=run.agent_id,
        session_id=run.session_id,
        status=status,
        content=run.content if completed else run.content or None,
        data=_data(run),
        error=_error(run),
        metadata=_metadata(run),
        messages=_messages(run) if messages else None,
    )


def _data(run: RunRow) -> dict[str, JsonValue] | None:
    if run.status is RunStatus.WAITING_CONFIRMATION and run.confirmation is not None:
        return waiting(_details(run.confirmation), run.confirmation.id)
    given = dict(run.data) if run.data is not None else None
    if run.status.is_terminal and run.status is not RunStatus.COMPLETED:
        return {**(given or {}), "reason": run.reason or run.status.value}
    return given


def _error(run: RunRow) -> str | None:
    return run.error or _ENDINGS.get(run.status)


def waiting(details: ConfirmationDetails, confirmation_id: str) -> dict[str, JsonValue]:
    """Say that a human is asked: the `data` of a run that waits, and of the event that tells so."""
    return {
        "requiresConfirmation": True,
        "confirmationId": confirmation_id,
        "confirmationDetails": details.model_dump(mode="json"),
    }


def _details(row: ConfirmationRow) -> ConfirmationDetails:
    return ConfirmationDetails(
        tool_name=row.tool_name, tool_args=dict(row.arguments), message=row.message, expires_at=row.expires_at
    )


def _metadata(run: RunRow) -> RunMetadata | None:
    took = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    known = RunMetadata(
        started_at=run.started_at,
        completed_at=run.ended_at,
        duration_ms=round(took / timedelta(milliseconds=1)) if took is not None else None,
        model=(run.usage.model if run.usage else "") or None,
        tokens_used=run.usage.total_tokens if run.usage else None,
        correlation_id=run.correlation_id or None,
    )
    return known if known != RunMetadata() else None


def _messages(run: RunRow) -> tuple[RunMessage, ...]:
    asked = RunMessage(role="user", content=run.message, timestamp=run.created_at)
    if run.status is not RunStatus.COMPLETED or run.ended_at is None:
        return (asked,)
    return asked, RunMessage(role="assistant", content=run.content or "", timestamp=run.ended_at)


def summary(run: RunRow) -> RunSummary:
    """Show a run in a list."""
    return RunSummary(
        run_id=run.id,
        agent_id=run.agent_id,
        session_id=run.session_id,
        user_id=run.user_id,
        status=OutwardStatus.of(run.status),
        detail=run.status,
        message=run.message[:_SHOWN],
        error=_error(run),
        created_at=run.created_at,
        started_at=run.started_at,
        completed_at=run.ended_at,
        tokens_used=run.usage.total_tokens if run.usage else None,
        parent_run=run.parent_run,
    )


# --- events ----------------------------------------------------------------------------------------------------------


def stream_event(run: RunRow, event: RunEvent) -> StreamEvent | None:
    """Show an event of `run`, which is as it was when the event was on record; None for what is not told to callers."""
    if event.kind is EventKind.STARTED:
        return StreamEvent(type="start", run_id=run.id, timestamp=event.time)
    if event.kind is EventKind.END:
        return _ending(run, event.time)
    if event.kind is EventKind.CHUNK:
        return _chunk(run, event, event.data)
    data = _told(run, event)
    return _chunk(run, event, data) if data is not None else None


def _told(run: RunRow, event: RunEvent) -> dict[str, JsonValue] | None:
    if event.tool is not None:
        return {"tool": event.tool.model_dump(mode="json", exclude_none=True)}
    if event.progress is not None:
        return {"progress": event.progress.model_dump(mode="json", exclude_none=True)}
    if event.confirmation is not None:
        return _asked(run, event.confirmation, event.time)
    return None  # Agno's own events are for its own clients


def _chunk(run: RunRow, event: RunEvent, data: dict[str, JsonValue] | None) -> StreamEvent:
    return StreamEvent(type="chunk", run_id=run.id, content=event.content, data=data, timestamp=event.time)


def _asked(run: RunRow, asked: ConfirmationRequest, at: datetime) -> dict[str, JsonValue]:
    if run.confirmation is not None and run.confirmation.id == asked.id:
        return waiting(_details(run.confirmation), asked.id)
    # An earlier one of the same run: the row has the last alone.
    patience = min(run.spec.confirm_within_s, asked.expires_in_s or run.spec.confirm_within_s)
    details = ConfirmationDetails(
        tool_name=asked.tool_name,
        tool_args=asked.arguments,
        message=asked.message,
        expires_at=at + timedelta(seconds=patience),
    )
    return waiting(details, asked.id)


def _ending(run: RunRow, at: datetime) -> StreamEvent:
    view = run_view(run)
    completed = view.status is OutwardStatus.COMPLETED
    return StreamEvent(
        type="end" if completed else "error",
        run_id=run.id,
        data=view.model_dump(mode="json", exclude_none=True),
        error=None if completed else view.error or "the run has not completed",
        timestamp=at,
    )


# --- sessions, files, audit ------------------------------------------------------------------------------------------


def session_view(row: SessionRow) -> SessionView:
    """Show a session in a list."""
    return SessionView(
        session_id=row.id,
        agent_id=row.agent_id,
        user_id=row.user_id,
        title=row.title,
        run_count=row.run_count,
        message_count=row.message_count,
        total_tokens=row.total_tokens,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def turn_view(turn: Turn) -> RunMessage:
    """Show one message of a session."""
    return RunMessage(role=turn.role, content=turn.content, timestamp=turn.time)


def markdown(session: SessionDetail) -> str:
    """Write a session down for people."""
    head = f"# {session.title}\n\nSession {session.session_id} with {session.agent_id}, {session.created_at:%Y-%m-%d}\n"
    said = (
        f"\n## {turn.role}, {turn.timestamp:%Y-%m-%d %H:%M:%S} UTC\n\n{turn.content}\n" for turn in session.messages
    )
    return head + "".join(said)


def file_view(row: FileRow) -> FileView:
    """Show a stored file."""
    return FileView(file_id=row.id, name=row.name, type=row.type, size=row.size)


def audit_entry(row: RunAuditRow) -> RunAuditEntry:
    """Show what was done to a run."""
    return RunAuditEntry(
        id=row.id,
        time=row.time,
        workspace_id=row.workspace,
        actor=row.actor,
        action=row.action,
        agent_id=row.agent_id,
        run_id=row.run_id,
        outcome=row.outcome,
    )
