"""The tables behind the rows, all named `api_…`: the manager's may lie in the same database.

Alembic makes them (`migrations/management_api`); a test holds the two equal.
"""

from sqlalchemy import Column, MetaData, String, Table

from opmas.database.columns import NAMING, Json, Utc, Words

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
