"""Bringing a server's tables to this version's form, or saying why this database cannot be used.

The work itself is alembic's (`migrations`). It blocks, so it runs in a thread with an event loop and a connection of
its own, under a lock on the database: of two servers that start together one migrates, the other finds it done.
"""

import asyncio
from dataclasses import dataclass, replace

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from opmas.database.engine import SCHEMA, WRITES, dispose, make_engine
from opmas.database.faults import Deadlines, translated
from opmas.wire.errors import Conflict


@dataclass(frozen=True, slots=True)
class Branch:
    """The revisions of one server: `name` is their folder under `migrations`, `head` the newest of them.

    The head is known here so that an ordinary start, with nothing to do, need not load alembic (0.3 s).
    """

    name: str
    head: str


# Oldest versions that have what we use: RETURNING and upserts in SQLite, long-term support of PostgreSQL.
OLDEST = {"sqlite": (3, 35), "postgresql": (13,)}

_DOING = "prepare the database"
_UPGRADE_TIMEOUT_S = 300.0  # rewriting a large table is no outage
_LOCK = 7_215_403_118  # any number that nobody else locks


async def to_newest(url: str, branch: Branch, deadlines: Deadlines) -> None:
    """Upgrade the tables of `branch` in the database at `url`.

    Raises `Conflict` if a newer OPMAS made it or its server is too old, `DatabaseUnavailable` if it does not answer.
    """
    with translated(_DOING):
        await asyncio.to_thread(asyncio.run, _upgrade(url, branch, deadlines))


async def _upgrade(url: str, branch: Branch, deadlines: Deadlines) -> None:
    engine = make_engine(url, pool_size=1, max_overflow=0, deadlines=replace(deadlines, statement=_UPGRADE_TIMEOUT_S))
    try:
        async with (
            asyncio.timeout(deadlines.call) as limit,
            engine.execution_options(**{WRITES: True}).begin() as connection,
        ):
            require_version(connection.dialect.name, connection.dialect.server_version_info or ())
            await _lock(connection)
            if not await connection.run_sync(_is_newest, branch):
                limit.reschedule(asyncio.get_running_loop().time() + _UPGRADE_TIMEOUT_S)
                await connection.run_sync(_run_alembic, branch)
    finally:
        await dispose(engine, deadlines)


async def _lock(connection: AsyncConnection) -> None:
    if connection.dialect.name == "sqlite":
        return  # a writing transaction is alone already
    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    # Not CREATE SCHEMA IF NOT EXISTS, which asks for the right to create one even where it exists.
    if (await connection.execute(text("SELECT to_regnamespace(:name) IS NULL"), {"name": SCHEMA})).scalar_one():
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


def _is_newest(connection: Connection, branch: Branch) -> bool:
    table = f"alembic_version_{branch.name}"
    if not inspect(connection).has_table(table):
        return False
    return connection.execute(text(f"SELECT version_num FROM {table}")).scalars().all() == [branch.head]  # noqa: S608 - a constant of ours


def _run_alembic(connection: Connection, branch: Branch) -> None:
    import migrations  # noqa: PLC0415 - loads alembic, in this thread, when there is something to do

    try:
        migrations.upgrade(connection, branch.name)
    except migrations.UnknownRevision as error:
        raise Conflict(
            f"cannot {_DOING}: {error}: a newer OPMAS made it",
            "upgrade OPMAS, or point OPMAS_DATABASE__URL to another database",
        ) from error


def require_version(server: str, version: tuple[int | str, ...]) -> None:
    """Raise `Conflict` if the database's server is older than the oldest that works."""
    if tuple(number for number in version if isinstance(number, int)) < OLDEST[server]:
        name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[server]
        found, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST[server]))
        raise Conflict(f"cannot {_DOING}: {name} {found} is too old", f"use {name} {oldest} or newer")
