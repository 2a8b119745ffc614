"""Runs: their events, confirmations, sessions, files and audit."""

import sqlalchemy as sa
from alembic import op

revision = "api0002"
down_revision = "api0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ID = sa.String(255)
AGENT = sa.String(63)


def upgrade() -> None:
    _runs()
    _indexes()
    _what_belongs_to_runs()
    _sessions_and_files()
    op.create_table(
        "api_run_audit",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("agent_id", AGENT, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_run_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_run_audit_workspace", "api_run_audit", ["workspace"])


def _runs() -> None:
    op.create_table(
        "api_runs",
        sa.Column("number", SERIAL, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("agent_id", AGENT, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("continues", sa.Boolean, nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("parent_run", ID),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("start_by", TIME, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("started_epoch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("owner_start", sa.Integer, nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("stop_by", TIME),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("confirmation_id", sa.Text),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("content", sa.Text),
        sa.Column("data", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("usage", sa.Text),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_api_runs"),
    )


def _indexes() -> None:
    unended, over = sa.text("ended_at IS NULL"), sa.text("ended_at IS NOT NULL")
    keyed = sa.text("idempotency_key IS NOT NULL")
    session = ["workspace", "session_id", "number"]
    op.create_index("ix_api_runs_id", "api_runs", ["id"], unique=True)
    op.create_index("ix_api_runs_workspace", "api_runs", ["workspace", "number"])
    op.create_index("ix_api_runs_session", "api_runs", session)
    for name, columns, unique, only in (
        ("ended", ["ended_at"], False, over),
        ("open", ["agent_id", "number"], False, unended),
        ("open_session", session, False, unended),
        ("correlation", ["correlation_id"], False, unended),
        ("idempotency", ["workspace", "idempotency_key"], True, keyed),
    ):
        op.create_index(
            f"ix_api_runs_{name}", "api_runs", columns, unique=unique, sqlite_where=only, postgresql_where=only
        )


def _what_belongs_to_runs() -> None:
    op.create_table(
        "api_run_frames",
        sa.Column("run", SERIAL, nullable=False, autoincrement=False),
        sa.Column("first_seq", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", "first_seq", name="pk_api_run_frames"),
        sa.ForeignKeyConstraint(["run"], ["api_runs.number"], name="fk_api_run_frames_run", ondelete="CASCADE"),
    )
    op.create_table(
        "api_confirmations",
        sa.Column("run", SERIAL, nullable=False, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("tool_name", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("resume", sa.Text, nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("confirmed", sa.Boolean),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("decided_arguments", sa.Text),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", TIME),
        sa.PrimaryKeyConstraint("run", "id", name="pk_api_confirmations"),
        sa.ForeignKeyConstraint(["run"], ["api_runs.number"], name="fk_api_confirmations_run", ondelete="CASCADE"),
    )


def _sessions_and_files() -> None:
    op.create_table(
        "api_sessions",
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("agent_id", AGENT, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("workspace", "id", name="pk_api_sessions"),
    )
    op.create_index("ix_api_sessions_updated", "api_sessions", ["workspace", "updated_at"])
    op.create_table(
        "api_files",
        sa.Column("id", ID, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("stored", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_files"),
    )
    op.create_index("ix_api_files_created_at", "api_files", ["created_at"])
    op.create_table(
        "api_file_pieces",
        sa.Column("file_id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("file_id", "number", name="pk_api_file_pieces"),
        sa.ForeignKeyConstraint(["file_id"], ["api_files.id"], name="fk_api_file_pieces_file_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    for name in ("run_audit", "file_pieces", "files", "sessions", "confirmations", "run_frames", "runs"):
        op.drop_table(f"api_{name}")
