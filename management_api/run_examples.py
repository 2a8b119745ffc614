"""One example of every body about runs, for the OpenAPI document, as `examples` has them of the rest."""

from datetime import UTC, datetime, timedelta

from opmas.wire.invocation import (
    AgentRunResponse,
    FileView,
    OutwardStatus,
    RunAudit,
    RunAuditEntry,
    RunList,
    RunMessage,
    RunMetadata,
    RunSummary,
    SessionDetail,
    SessionList,
    SessionMessages,
    SessionView,
    StreamEvent,
)
from opmas.wire.runs import RunStatus

_NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
_THEN = _NOON + timedelta(milliseconds=840)
_RUN = "019c13c1a0007f3a9d1e5b2c4a6f8e01"

ACCEPTED = AgentRunResponse(run_id=_RUN, agent_id="echo", session_id="s1", status=OutwardStatus.PENDING)
RUN = ACCEPTED.model_copy(
    update={
        "status": OutwardStatus.COMPLETED,
        "content": "hello",
        "metadata": RunMetadata(
            started_at=_NOON, completed_at=_THEN, duration_ms=840, model="gpt-5-mini", tokens_used=42
        ),
        "messages": (
            RunMessage(role="user", content="say hello", timestamp=_NOON),
            RunMessage(role="assistant", content="hello", timestamp=_THEN),
        ),
    }
)
CANCELLED = ACCEPTED.model_copy(
    update={"status": OutwardStatus.FAILED, "error": "the run was cancelled", "data": {"reason": "cancelled"}}
)
RESUMED = ACCEPTED.model_copy(update={"status": OutwardStatus.RUNNING})
EVENT = StreamEvent(type="chunk", run_id=_RUN, content="hel", timestamp=_NOON)
RUNS = RunList(
    runs=(
        RunSummary(
            run_id=_RUN, agent_id="echo", session_id="s1", user_id="ann", status=OutwardStatus.COMPLETED,
            detail=RunStatus.COMPLETED, message="say hello", created_at=_NOON, started_at=_NOON, completed_at=_THEN,
            tokens_used=42,
        ),
    ),
    total=1,
)  # fmt: skip
AUDIT = RunAudit(
    audit=(
        RunAuditEntry(
            id=5, time=_NOON, workspace_id="default", actor="ann@default", action="run", agent_id="echo", run_id=_RUN,
            outcome="accepted",
        ),
    ),
    next=5,
)  # fmt: skip
SESSION = SessionView(
    session_id="s1", agent_id="echo", user_id="ann", title="Greetings", run_count=1, message_count=2, total_tokens=42,
    created_at=_NOON, updated_at=_THEN,
)  # fmt: skip
SESSION_DETAIL = SessionDetail(**SESSION.model_dump(by_alias=False), messages=RUN.messages or ())
MESSAGES = SessionMessages(messages=RUN.messages or (), total=2)
SESSIONS = SessionList(sessions=(SESSION,), total=1)
FILE = FileView(file_id="f4c1d7", name="report.pdf", type="application/pdf", size=48_213)
