"""Agno's own store of an agent: a SQLite file, used from one thread beside the loop.

Agno has an asynchronous class for SQLite, too; a run takes twice as long with it. One thread, because SQLite lets one
writer in at a time anyway.
"""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from agno.db.base import AsyncBaseDb
from agno.db.sqlite import SqliteDb


class _Threaded(AsyncBaseDb):
    """Does what `SqliteDb` does, and lets the loop go on meanwhile."""

    def __init__(self, database: SqliteDb) -> None:
        super().__init__(id=database.id)
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agno-store")


def _threaded(name: str) -> Callable[..., Any]:
    async def method(self: Any, *arguments: Any, **options: Any) -> Any:
        call = partial(getattr(self._database, name), *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    method.__name__ = name
    return method


# Agno grows methods with every release; whichever there are, each means the same in both classes.
_Store = type(
    "Store",
    (_Threaded,),
    {
        name: _threaded(name)
        for name, method in inspect.getmembers(AsyncBaseDb, inspect.iscoroutinefunction)
        if hasattr(SqliteDb, name)
    },
)


def open_store(file: Path) -> AsyncBaseDb:
    """Open the store in `file`, made at the first run."""
    store: AsyncBaseDb = _Store(SqliteDb(db_file=str(file)))
    return store
