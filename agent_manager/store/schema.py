"""The tables behind the rows, as SQLAlchemy sees them on either back end.

Alembic makes them (`migrations/agent_manager`); a test holds the two equal.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

from opmas.database.columns import NAMING, SERIAL, Json, Utc, Words, choice
from opmas.wire.status import AgentStatus, Desired

_Id = String(63)

METADATA = MetaData(naming_convention=NAMING)

AGENTS = Table(
    "agents",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("package", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("type", Words, nullable=False),
    Column("version", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("labels", Json, nullable=False),
    Column("capabilities", Json, nullable=False),
    Column("config", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("desired", choice(Desired), nullable=False),
    Column("replicas", Integer, CheckConstraint("replicas >= 0", name="replicas"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("node", Words),
    Column("deleted", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc, nullable=False),
    Column("access", Json, nullable=False, server_default="{}"),
    Column("given", Json, nullable=False, server_default="[]"),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("agent_id", _Id, ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, CheckConstraint("ordinal >= 0", name="ordinal"), primary_key=True, autoincrement=False),
    Column("node", Words, nullable=False),
    Column("status", choice(AgentStatus), nullable=False),
    Column("pid", Integer),
    Column("start_count", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("started_at", Utc),
    Column("last_heartbeat", Utc),
    Column("next_retry_at", Utc),
    Column("reason", Words, nullable=False),
    Column("last_exit", Json),
)

# Event and audit rows outlive their agent, so they refer to it by name only. Ids are never used twice: a follower asks
# for what came after the last one it saw, and pruning may have emptied the table meanwhile.
EVENTS = Table(
    "events",
    METADATA,
    Column("id", SERIAL, primary_key=True),
    Column("time", Utc, nullable=False, index=True),
    Column("node", Words, nullable=False),
    Column("agent_id", Words, nullable=False),
    Column("instance_id", Words),
    Column("kind", Words, nullable=False),
    Column("status", choice(AgentStatus)),
    Column("cause", Json, nullable=False),
    Index(None, "agent_id", "id"),
    sqlite_autoincrement=True,
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", SERIAL, primary_key=True),
    Column("time", Utc, nullable=False, index=True),
    Column("node", Words, nullable=False),
    Column("publisher", Words, nullable=False),
    Column("command", Words, nullable=False),
    Column("agent_id", Words, nullable=False),
    Column("params", Json, nullable=False),
    Column("outcome", Words, nullable=False),
    Column("error_code", Words),
    Column("correlation_id", Words),
    Index(None, "agent_id", "id"),
    sqlite_autoincrement=True,
)

NODES = Table(
    "nodes",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("incarnation", Words, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("lease_until", Utc, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("version", Words, nullable=False),
)
