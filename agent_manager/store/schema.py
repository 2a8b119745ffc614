"""The tables behind the rows, as SQLAlchemy sees them on either back end.

Alembic makes them (`migrations/agent_manager`); a test holds the two equal. No schema name is spelled here: on
PostgreSQL every connection's search path is `opmas`, SQLite has none.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

from opmas.wire.status import AgentStatus, Desired


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps no zone, so a naive one is refused before it can be misread."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware time into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"cannot store {value}: it has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text that may come from anyone: what PostgreSQL refuses, NUL and lone surrogates, is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return text that every back end takes."""
        return value if value is None else storable(value)


class Json(TypeDecorator[Any]):
    """A JSON value as ASCII text; NaN and infinities, which JSON does not have, become null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode; None stays NULL."""
        if value is None:
            return None
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":"))
        except ValueError:
            cleaned = json.loads(json.dumps(value), parse_constant=lambda _: None)
            return json.dumps(cleaned, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode."""
        return None if value is None else json.loads(value)


def storable(text: str) -> str:
    """Replace what some back end would refuse in `text`."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _choice(values: type[StrEnum]) -> Enum:
    return Enum(values, native_enum=False, length=16, values_callable=lambda kind: [str(one.value) for one in kind])


# SQLite numbers rows by itself only in a column that is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")
_Id = String(63)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

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
    Column("desired", _choice(Desired), nullable=False),
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
    Column("status", _choice(AgentStatus), nullable=False),
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
    Column("id", _Serial, primary_key=True),
    Column("time", Utc, nullable=False, index=True),
    Column("node", Words, nullable=False),
    Column("agent_id", Words, nullable=False),
    Column("instance_id", Words),
    Column("kind", Words, nullable=False),
    Column("status", _choice(AgentStatus)),
    Column("cause", Json, nullable=False),
    Index(None, "agent_id", "id"),
    sqlite_autoincrement=True,
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _Serial, primary_key=True),
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
