"""One server's door to its database, on SQLite or PostgreSQL: reading, writing in groups, migrating.

Every call has a deadline of at most ten seconds and raises `DatabaseUnavailable` when the database does not answer; the
next call finds it by itself when it is back. What the tables mean is the servers' business, which derive from this.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self

from sqlalchemy import Connection, Engine, Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from opmas.database import migrate
from opmas.database.direct import Direct
from opmas.database.engine import direct, dispose, make_engine
from opmas.database.faults import Deadlines, translated
from opmas.database.migrate import Branch
from opmas.database.writer import Change, T, Writer


class Database:
    """Use as `async with Kind.open(url) as store: await store.migrate()`; each kind names its revisions."""

    revisions: ClassVar[Branch]

    def __init__(self, url: str, engine: AsyncEngine, deadlines: Deadlines) -> None:
        self._url = url
        self._engine = engine
        self._deadlines = deadlines
        self._readers = direct(engine, deadlines)
        self._direct = None if self._readers is None else Direct(self._readers)
        self._writer = Writer(engine, self._direct, deadlines)
        self._tasks = asyncio.TaskGroup()

    @classmethod
    def open(cls, url: str, pool_size: int = 5, max_overflow: int = 10, timeout_s: float = 5.0) -> Self:
        """Prepare a store on `sqlite:///path` or `postgresql://…`; it connects on first use.

        A connection or a statement may take `timeout_s`, a whole call not twice that. Raises `InvalidRequest` if the
        URL names no database that OPMAS can use.
        """
        deadlines = Deadlines(connect=timeout_s, statement=timeout_s)
        return cls(url, make_engine(url, pool_size, max_overflow, deadlines), deadlines)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._writer.run(), name="store writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The group is not told of the body's error: it would cancel the writer and lose what is queued.
        self._writer.close()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await dispose(self._engine, self._deadlines)
            await self._dispose_directly()

    async def _dispose_directly(self) -> None:
        if self._direct is not None and self._readers is not None:
            with suppress(TimeoutError):  # a disk that hangs is left to itself
                async with asyncio.timeout(self._deadlines.transaction):
                    await self._direct.close()
            self._readers.dispose()

    async def migrate(self) -> None:
        """Bring the tables to this version's form; several servers may do so at once.

        Once it has the database's lock and tables to change, it may take as long as that takes, up to five minutes.

        Raises `Conflict` if the database was made by a newer OPMAS, or its server is too old.
        """
        await migrate.to_newest(self._url, self.revisions, self._deadlines)

    async def ping(self) -> None:
        """Ask the database for a sign of life."""
        await self._read("reach the database", select(text("1")))

    async def write(self, change: Change[T], doing: str = "write to the database") -> T:
        """Commit a change of the caller's own, grouped with others; see `Writer.write`."""
        return await self._writer.write(doing, change)

    async def _look(self, doing: str, read: Callable[[Connection], T]) -> T:
        """Do several reads in one transaction."""
        with translated(doing):
            async with asyncio.timeout(self._deadlines.transaction):
                if self._readers is not None:
                    return await asyncio.to_thread(_on, self._readers, read)
                async with self._engine.connect() as connection:
                    return await connection.run_sync(read)

    async def _read(self, doing: str, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._look(doing, lambda on: on.execute(query).all())


def _on(engine: Engine, read: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:  # what goes straight to the driver begins none
        return read(connection)
