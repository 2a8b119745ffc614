"""From `OPMAS_DATABASE__URL` to an engine whose connections are durable, bounded in time and in the right schema."""

import asyncio
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from opmas.database.faults import Deadlines, translated
from opmas.wire.errors import InvalidRequest

SCHEMA = "opmas"  # on PostgreSQL
WRITES = "opmas_writes"  # the execution option that marks a transaction which will write

# sqlite3's own implicit BEGIN comes too late for reads and too weak for writes.
_CONNECT: dict[str, Any] = {"isolation_level": None}

_TRIES = 100  # of 10 ms: a second, in which the event loop stands still

_HINT = "set OPMAS_DATABASE__URL to sqlite:///path/to/file or postgresql://user:password@host/database"


def make_engine(
    url: str, pool_size: int, max_overflow: int, deadlines: Deadlines, *, program: str = "opmas"
) -> AsyncEngine:
    """Make an engine for `url`; it connects on first use. `program` is how PostgreSQL lists the connections.

    Raises `InvalidRequest` if the URL names no database that OPMAS can use, `DatabaseUnavailable` if the file's folder
    cannot be made.
    """
    parsed = _parsed(url)
    pool = {"pool_size": pool_size, "max_overflow": max_overflow, "pool_timeout": deadlines.connect}
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed, pool, deadlines)
        case "postgresql" | "postgres":
            return _postgresql(parsed, pool, deadlines, program)
        case other:
            raise InvalidRequest(f"cannot use the database URL: OPMAS does not speak {other}", _HINT)


def direct(engine: AsyncEngine, deadlines: Deadlines) -> Engine | None:
    """Make an engine for threads that works on the same SQLite file without a hop between threads per statement.

    A transaction then costs one hop instead of some thirty (measured: a third of the time). None for PostgreSQL, whose
    driver needs no threads.
    """
    if engine.dialect.name != "sqlite":
        return None
    same = create_engine(
        engine.url.set(drivername="sqlite"),
        connect_args={**_CONNECT, "timeout": deadlines.connect, "check_same_thread": False},
        pool_timeout=deadlines.connect,
    )
    event.listen(same, "connect", _make_durable)
    event.listen(same, "begin", _begin_directly)
    return same


async def dispose(engine: AsyncEngine, deadlines: Deadlines) -> None:
    """Close the engine's connections; a database that does not even answer a goodbye is left without one."""
    with suppress(TimeoutError):
        async with asyncio.timeout(deadlines.connect):
            await engine.dispose()


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:  # its text would show the password
        raise InvalidRequest("cannot use the database URL: it is not one", _HINT) from error


def _sqlite(url: URL, pool: dict[str, Any], deadlines: Deadlines) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise InvalidRequest(
            "cannot use the database URL: it names no file, so nothing would outlive the server", _HINT
        )
    with translated("open the database"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        connect_args={**_CONNECT, "timeout": deadlines.connect},
        **pool,
    )
    event.listen(engine.sync_engine, "connect", _make_durable)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _make_durable(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        _patiently(cursor, f"PRAGMA {pragma}")
    cursor.close()


def _patiently(cursor: Any, statement: str) -> None:
    # Whatever the timeout, SQLite does not wait when two programs turn a new file's journal at once: one is told at
    # once that it is locked. That is over in a few ms.
    for _ in range(_TRIES):
        try:
            cursor.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.01)
        else:
            return
    cursor.execute(statement)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(_beginning(connection))


def _begin_directly(connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.execute(_beginning(connection))


def _beginning(connection: Connection) -> str:
    # A transaction that begins as a reader and turns writer fails at once, without waiting, if another wrote meanwhile.
    return "BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES, False) else "BEGIN"


def _postgresql(url: URL, pool: dict[str, Any], deadlines: Deadlines, program: str) -> AsyncEngine:
    # asyncpg reads the URL itself and so knows all of libpq's forms: sslmode, several hosts, a socket's folder, ….
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def connect() -> object:
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - no types shipped; SQLite users need not wait for it

        try:
            return await asyncpg.connect(
                dsn,
                timeout=deadlines.connect,
                command_timeout=deadlines.statement,
                server_settings=_server_settings(deadlines, program),
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # SQLAlchemy translates these only later on
            raise ConnectionError(f"PostgreSQL refuses the connection: {error}") from error

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_pre_ping=True, **pool)


def _server_settings(deadlines: Deadlines, program: str) -> dict[str, str]:
    return {
        "application_name": program,
        "search_path": SCHEMA,
        "statement_timeout": str(int(deadlines.statement * 1000)),
        # A server that was frozen or cut off must not keep others waiting for its row locks.
        "idle_in_transaction_session_timeout": "10000",
    }
