"""The connection that writes to a SQLite file, and the thread that it lives in; readers take connections of their own.

SQLite has one writer at a time: who keeps one connection for it spares the pool's work around each transaction, and a
thread of its own waits for nobody's.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

from opmas.database.engine import WRITES

T = TypeVar("T")


class Direct:
    """Does one transaction after another."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**{WRITES: True})
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "database writer")

    async def transact(self, act: Callable[[Connection], T]) -> T:
        """Commit what `act` does; it goes on though nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, act)

    async def close(self) -> None:
        """Give the connection up when what was asked for is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown(wait=False)

    def _transact(self, act: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                return act(self._connection)
        except BaseException:  # the next one starts from scratch
            self._let_go()
            raise

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
