"""Bringing the manager's tables to this version's form, or saying why this database cannot be used.

The work itself is alembic's (`migrations`). It blocks, so it runs in a thread with an event loop and a connection of
its own, under a lock on the database: of two managers that start together one migrates, the other finds it done.
"""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from agent_manager.store.engine import SCHEMA, WRITES, make_engine
from agent_manager.store.faults import CALL_TIMEOUT_S, translated
from opmas.wire.errors import Conflict

BRANCH = "agent_manager"
_DOING = "prepare the database"
_LOCK = 7_215_403_118  # any number that nobody else locks

# Oldest versions that have what we use: RETURNING and upserts in SQLite, long-term support of PostgreSQL.
OLDEST = {"sqlite": (3, 35), "postgresql": (13,)}


async def to_newest(url: str) -> None:
    """Upgrade the database at `url`.

    Raises `Conflict` if a newer OPMAS made it or its server is too old, `DatabaseUnavailable` if it does not answer.
    """
    with translated(_DOING):
        await asyncio.to_thread(asyncio.run, _upgrade(url))


async def _upgrade(url: str) -> None:
    engine = make_engine(url, pool_size=1, max_overflow=0)
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S), engine.execution_options(**{WRITES: True}).begin() as connection:
            require_version(connection.dialect.name, connection.dialect.server_version_info or ())
            await _lock(connection)
            await connection.run_sync(migrations.upgrade, BRANCH)
    except migrations.UnknownRevision as error:
        raise Conflict(
            f"cannot {_DOING}: {error}, so a newer OPMAS made it",
            "upgrade OPMAS, or point OPMAS_DATABASE__URL to another database",
        ) from error
    finally:
        await engine.dispose()


async def _lock(connection: AsyncConnection) -> None:
    if connection.dialect.name == "sqlite":
        return  # a writing transaction is alone already
    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    # Not CREATE SCHEMA IF NOT EXISTS, which asks for the right to create one even where it exists.
    if (await connection.execute(text("SELECT to_regnamespace(:name) IS NULL"), {"name": SCHEMA})).scalar_one():
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


def require_version(server: str, version: tuple[int | str, ...]) -> None:
    """Raise `Conflict` if the database's server is older than the oldest that works."""
    if tuple(number for number in version if isinstance(number, int)) < OLDEST[server]:
        name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[server]
        found, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST[server]))
        raise Conflict(f"cannot {_DOING}: {name} {found} is too old", f"use {name} {oldest} or newer")
