"""The tables behind the rows, all named `api_…`: the manager's may lie in the same database.

Alembic makes them (`migrations/management_api`); a test holds the two equal.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from opmas.database.columns import NAMING, SERIAL, Json, Model, Utc, Words, choice
from opmas.wire.runs import FileRef, RunSpec, RunStatus, Usage

METADATA = MetaData(naming_convention=NAMING)

KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("hash", String(64), nullable=False, index=True, unique=True),
    Column("name", Words, nullable=False),
    Column("roles", Json, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("workspace", Words, nullable=False, index=True),
    Column("created_by", Words, nullable=False),
    Column("created_at", Utc, nullable=False, index=True),
    Column("expires_at", Utc),
    Column("last_used_at", Utc),
    Column("revoked_at", Utc),
)

_Id = String(255)
_OPEN = "ended_at IS NULL"

# `number` is the order of arrival, which clocks do not give: runs of a session are served by it.
RUNS = Table(
    "api_runs",
    METADATA,
    Column("number", SERIAL, primary_key=True),
    Column("id", _Id, nullable=False, unique=True, index=True),
    Column("workspace", Words, nullable=False),
    Column("user_id", Words, nullable=False),
    Column("agent_id", String(63), nullable=False),
    Column("session_id", _Id, nullable=False),
    Column("continues", Boolean, nullable=False),
    Column("status", choice(RunStatus, 24), nullable=False),
    Column("message", Words, nullable=False),
    Column("params", Json, nullable=False),
    Column("files", Model(tuple[FileRef, ...]), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("correlation_id", Words, nullable=False),
    Column("request_hash", Words, nullable=False),
    Column("idempotency_key", Words),
    Column("parent_run", _Id),
    Column("spec", Model(RunSpec), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("start_by", Utc, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("started_epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner", Words),
    Column("owner_start", Integer, nullable=False),
    Column("lease_until", Utc),
    Column("stop_by", Utc),
    Column("cancel_requested", Boolean, nullable=False),
    Column("confirmation_id", Words),
    Column("started_at", Utc),
    Column("ended_at", Utc),
    Column("content", Words),
    Column("data", Json),
    Column("error", Words),
    Column("reason", Words, nullable=False),
    Column("usage", Model(Usage)),
    Column("tokens", Integer, nullable=False),
)


def _index(name: str, *columns: str, only: str, unique: bool = False) -> None:
    where = text(only)
    on = (RUNS.c[column] for column in columns)
    Index(f"ix_api_runs_{name}", *on, unique=unique, sqlite_where=where, postgresql_where=where)


Index("ix_api_runs_workspace", RUNS.c.workspace, RUNS.c.number)
Index("ix_api_runs_session", RUNS.c.workspace, RUNS.c.session_id, RUNS.c.number)
_index("idempotency", "workspace", "idempotency_key", only="idempotency_key IS NOT NULL", unique=True)
_index("ended", "ended_at", only="ended_at IS NOT NULL")
# Small, since they hold only what has not ended: whoever looks for work looks there.
_index("open", "agent_id", "number", only=_OPEN)
_index("open_session", "workspace", "session_id", "number", only=_OPEN)
_index("correlation", "correlation_id", only=_OPEN)

# A row per frame, not per event: `body` is a JSON array with an event on each line.
FRAMES = Table(
    "api_run_frames",
    METADATA,
    Column("run", SERIAL, ForeignKey("api_runs.number", ondelete="CASCADE"), nullable=False, autoincrement=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("run", "first_seq"),
)

CONFIRMATIONS = Table(
    "api_confirmations",
    METADATA,
    Column("run", SERIAL, ForeignKey("api_runs.number", ondelete="CASCADE"), nullable=False, autoincrement=False),
    Column("id", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("tool_name", Words, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("resume", Words, nullable=False),
    Column("state", Json),
    Column("expires_at", Utc, nullable=False),
    Column("requested_at", Utc, nullable=False),
    Column("confirmed", Boolean),
    Column("note", Words, nullable=False),
    Column("decided_arguments", Json),
    Column("decided_by", Words, nullable=False),
    Column("decided_at", Utc),
    PrimaryKeyConstraint("run", "id"),
)

SESSIONS = Table(
    "api_sessions",
    METADATA,
    Column("workspace", Words, nullable=False),
    Column("id", _Id, nullable=False),
    Column("agent_id", String(63), nullable=False),
    Column("user_id", Words, nullable=False),
    Column("title", Words, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc, nullable=False),
    PrimaryKeyConstraint("workspace", "id"),
    Index("ix_api_sessions_updated", "workspace", "updated_at"),
)

# `stored` becomes true with the last piece; until then nobody else sees the file.
FILES = Table(
    "api_files",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("workspace", Words, nullable=False),
    Column("user_id", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("type", Words, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Utc, nullable=False, index=True),
    Column("stored", Boolean, nullable=False),
)

PIECES = Table(
    "api_file_pieces",
    METADATA,
    Column("file_id", _Id, ForeignKey("api_files.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("file_id", "number"),
)

AUDIT = Table(
    "api_run_audit",
    METADATA,
    Column("id", SERIAL, primary_key=True),
    Column("time", Utc, nullable=False),
    Column("workspace", Words, nullable=False, index=True),
    Column("actor", Words, nullable=False),
    Column("action", String(16), nullable=False),
    Column("agent_id", String(63), nullable=False),
    Column("run_id", _Id, nullable=False),
    Column("outcome", Words, nullable=False),
    sqlite_autoincrement=True,
)
