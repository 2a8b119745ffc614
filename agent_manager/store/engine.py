"""From `OPMAS_DATABASE__URL` to an engine whose connections are durable, bounded in time and in the right schema."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from agent_manager.store.faults import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S
from opmas.wire.errors import InvalidRequest

SCHEMA = "opmas"  # on PostgreSQL
WRITES = "opmas_writes"  # the execution option that marks a transaction which will write

_HINT = "set OPMAS_DATABASE__URL to sqlite:///path/to/file or postgresql://user:password@host/database"


def make_engine(url: str, pool_size: int, max_overflow: int) -> AsyncEngine:
    """Make an engine for `url`; it connects on first use.

    Raises `InvalidRequest` if the URL names no database that OPMAS can use.
    """
    parsed = _parsed(url)
    pool = {"pool_size": pool_size, "max_overflow": max_overflow, "pool_timeout": CONNECT_TIMEOUT_S}
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed, pool)
        case "postgresql" | "postgres":
            return _postgresql(parsed, pool)
        case other:
            raise InvalidRequest(f"cannot use the database URL: OPMAS does not speak {other}", _HINT)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:  # its text would show the password
        raise InvalidRequest("cannot use the database URL: it is not one", _HINT) from error


def _sqlite(url: URL, pool: dict[str, Any]) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise InvalidRequest(
            "cannot use the database URL: it names no file, so nothing would outlive the manager", _HINT
        )
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        # No isolation level: sqlite3's own implicit BEGIN comes too late for reads and too weak for writes.
        connect_args={"isolation_level": None, "timeout": STATEMENT_TIMEOUT_S},
        **pool,
    )
    event.listen(engine.sync_engine, "connect", _make_durable)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _make_durable(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that begins as a reader and turns writer fails at once, without waiting, if another wrote meanwhile.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL, pool: dict[str, Any]) -> AsyncEngine:
    # asyncpg reads the URL itself and so knows all of libpq's forms: sslmode, several hosts, a socket's folder, ….
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connect: Callable[..., Any] = partial(
        asyncpg.connect,
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings={
            "application_name": "opmas agent_manager",
            "search_path": SCHEMA,
            "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            # A manager that was frozen or cut off must not keep others waiting for its row locks.
            "idle_in_transaction_session_timeout": "10000",
        },
    )
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_pre_ping=True, **pool)
