"""Group commit: changes that arrive while a transaction is being committed share the next one.

A commit costs a sync of the disk, however many changes are in it; starting a hundred agents at once therefore costs a
few commits instead of hundreds. Nobody waits for company: what is queued when the writer is free goes. A change that
the database refuses fails alone: its group is halved and tried again until it stands by itself.

Changes of one kind can go further and share statements as well: see `Writer.write_each`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opmas.database.direct import Direct
from opmas.database.engine import WRITES
from opmas.database.faults import Deadlines, is_outage, translated
from opmas.wire.errors import DatabaseUnavailable, OpmasError

T = TypeVar("T")
Item = TypeVar("Item")
Change = Callable[[AsyncConnection], Awaitable[T]]
"""What to do on a connection inside a transaction. It may be called again after its transaction was rolled back."""

Batch = Callable[[Connection, Sequence[Item]], Sequence[T | OpmasError]]
"""What to do with all items of a kind in one transaction: a result for each, or the error that its caller gets.

An error among the results undoes nothing; one that is raised undoes the whole transaction.
"""

_GROUP_LIMIT = 500  # keeps one transaction well below its deadline


@dataclass(eq=False, slots=True)
class _Entry:
    doing: str
    answer: asyncio.Future[Any]
    change: Change[Any] | None = None
    batch: Batch[Any, Any] | None = None
    item: Any = None

    def resolve(self, result: Any) -> None:
        if self.answer.done():  # its caller may have gone
            return
        if isinstance(result, OpmasError):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Writer:
    """The one place that writes: a queue of changes and the task that commits them, in the order they came."""

    def __init__(self, engine: AsyncEngine, direct: Direct | None, deadlines: Deadlines) -> None:
        self._engine = engine.execution_options(**{WRITES: True})
        self._direct = direct
        self._deadlines = deadlines
        self._queue: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    async def write(self, doing: str, change: Change[T]) -> T:
        """Commit `change` with whatever else is queued, and return its result once it is durable.

        `doing` completes the sentence "cannot …" should it fail. After `DatabaseUnavailable` the change may or may not
        have been committed. A caller that is cancelled before its turn takes its change back.
        """
        result: T = await self._queued(_Entry(doing, asyncio.get_running_loop().create_future(), change))
        return result

    async def write_each(self, doing: str, batch: Batch[Item, T], item: Item) -> T:
        """Commit what `batch` does with `item`, and with the items of all others who wait with the same `batch`.

        Like `write` otherwise; a batch takes the place in the order of its first item.
        """
        future = asyncio.get_running_loop().create_future()
        result: T = await self._queued(_Entry(doing, future, batch=batch, item=item))
        return result

    async def _queued(self, entry: _Entry) -> Any:
        if self._closed:
            raise DatabaseUnavailable(f"cannot {entry.doing}: the store is closed")
        self._queue.append(entry)
        self._wake.set()
        with translated(entry.doing):
            async with asyncio.timeout(self._deadlines.call):
                return await entry.answer

    async def run(self) -> None:
        """Commit what is queued until closed; the owner's task."""
        while not self._closed or self._queue:
            await self._wake.wait()
            self._wake.clear()
            while group := self._next_group():
                await self._commit(group)

    def close(self) -> None:
        """Take no more changes and let `run` end when the queued ones are committed."""
        self._closed = True
        self._wake.set()

    def _next_group(self) -> list[_Entry]:
        """Take what goes into one transaction.

        SQLite has one writer, and any company is welcome. On PostgreSQL a transaction holds changes of one kind, which
        can lock rows in one order: two servers with mixed groups would wait for each other.
        """
        ahead = list(self._queue)
        if self._direct is None and ahead:
            ahead = [entry for entry in ahead if entry.batch is ahead[0].batch]
        group = ahead[:_GROUP_LIMIT]
        taken = set(group)
        self._queue = deque(entry for entry in self._queue if entry not in taken)
        return group

    async def _commit(self, group: list[_Entry]) -> None:
        group = [entry for entry in group if not entry.answer.done()]
        if not group:
            return
        try:
            results = await self._transact(group)
        except Exception as error:  # noqa: BLE001 - not swallowed: `write` raises it where the change came from
            if len(group) > 1 and not is_outage(error):
                half = len(group) // 2
                await self._commit(group[:half])
                await self._commit(group[half:])
                return
            for entry in group:
                entry.fail(error)
        else:
            for entry, result in zip(group, results, strict=True):
                entry.resolve(result)

    async def _transact(self, group: list[_Entry]) -> list[Any]:
        async with asyncio.timeout(self._deadlines.transaction):
            if self._direct is not None and all(entry.change is None for entry in group):
                return await self._direct.transact(lambda on: _batches(on, group))
            async with self._engine.begin() as connection:
                results: dict[_Entry, Any] = {}
                for entry in group:
                    if entry.change is not None:
                        results[entry] = await entry.change(connection)
                    elif entry.batch is not None and entry not in results:
                        results.update(await connection.run_sync(_batched, entry.batch, group))
                return [results[entry] for entry in group]


def _batches(connection: Connection, group: list[_Entry]) -> list[Any]:
    results: dict[_Entry, Any] = {}
    for entry in group:
        if entry.batch is not None and entry not in results:
            results.update(_batched(connection, entry.batch, group))
    return [results[entry] for entry in group]


def _batched(connection: Connection, batch: Batch[Any, Any], group: list[_Entry]) -> dict[_Entry, Any]:
    alike = [entry for entry in group if entry.batch is batch]
    return dict(zip(alike, batch(connection, [entry.item for entry in alike]), strict=True))
