"""What the API remembers: API keys. Rows leave the store as frozen dataclasses, times being aware and in UTC."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from management_api.store.schema import KEYS
from opmas.database import Branch, Database
from opmas.database.faults import Deadlines
from opmas.database.writer import Batch, Item, T
from opmas.wire.errors import DatabaseUnavailable, OpmasError
from opmas.wire.messages import now

HEAD = "api0002"

_RETRY_S = 1.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An API key, known by the hash of its secret; an empty `workspace` means all of them."""

    id: str
    hash: str = field(repr=False)
    name: str
    roles: list[str]
    scopes: list[str] = field(default_factory=list)
    workspace: str
    created_by: str
    created_at: datetime = field(default_factory=now)
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class ApiStore(Database):
    """The API's door to its database, which may be away when the API starts: then whoever needs it gets a 503."""

    revisions = Branch("management_api", HEAD)

    _unready = "it is still being prepared"
    _hint = "try again in a moment"

    def __init__(self, url: str, engine: AsyncEngine, deadlines: Deadlines) -> None:
        super().__init__(url, engine, deadlines)
        self._tried = asyncio.Event()
        self._patience_s = deadlines.call

    async def prepare(self) -> None:
        """Bring the tables to this version's form, trying until the database is there."""
        while True:
            try:
                await self.migrate()
            except DatabaseUnavailable as error:
                self._unready, self._hint = error.message, error.hint
                logger.warning("waiting for the database", reason=error.message, hint=error.hint)
            except OpmasError as error:  # a newer OPMAS made it: that does not mend itself
                self._unready, self._hint = error.message, error.hint
                logger.error("no database", reason=error.message, hint=error.hint)  # noqa: TRY400 - says it all
                return
            else:
                self._unready = ""
                return
            finally:
                self._tried.set()
            await asyncio.sleep(_RETRY_S)

    async def add_key(self, row: KeyRow) -> None:
        """Keep a new key."""
        await self._require_ready("keep the API key")

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(insert(KEYS).values(asdict(row)))

        await self.write(change, "keep the API key")

    async def key_by_hash(self, digest: str) -> KeyRow | None:
        """Find the key whose secret hashes to `digest`."""
        await self._require_ready("check the API key")
        rows = await self._read("check the API key", select(KEYS).where(KEYS.c.hash == digest))
        return KeyRow(**rows[0]._mapping) if rows else None

    async def keys(self, workspace: str | None = None) -> list[KeyRow]:
        """Load the keys, the newest first: all of them, or those of one workspace."""
        await self._require_ready("list the API keys")
        query = select(KEYS).order_by(KEYS.c.created_at.desc(), KEYS.c.id)
        rows = await self._read(
            "list the API keys", query if workspace is None else query.where(KEYS.c.workspace == workspace)
        )
        return [KeyRow(**row._mapping) for row in rows]

    async def revoke_key(self, key_id: str, workspace: str | None = None) -> bool:
        """End a key, now; says whether there was such a key (in that workspace). Ending it again changes nothing."""
        await self._require_ready("revoke the API key")
        chosen = KEYS.c.id == key_id if workspace is None else (KEYS.c.id == key_id) & (KEYS.c.workspace == workspace)

        async def change(connection: AsyncConnection) -> bool:
            ended = update(KEYS).where(chosen, KEYS.c.revoked_at.is_(None)).values(revoked_at=now())
            await connection.execute(ended)
            return (await connection.execute(select(KEYS.c.id).where(chosen))).first() is not None

        return await self.write(change, "revoke the API key")

    async def revoked_keys(self) -> list[str]:
        """List the ids of all keys that were revoked."""
        await self._require_ready("list the API keys")
        rows = await self._read("list the API keys", select(KEYS.c.id).where(KEYS.c.revoked_at.is_not(None)))
        return [row.id for row in rows]

    async def mark_used(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used, by id."""
        await self._require_ready("note the use of API keys")
        statement = update(KEYS).where(KEYS.c.id == bindparam("key")).values(last_used_at=bindparam("at"))

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(statement, [{"key": key, "at": at} for key, at in used.items()])

        await self.write(change, "note the use of API keys")

    async def do(self, doing: str, batch: Batch[Item, T], item: Item) -> T:
        """Commit what `batch` does with `item`, grouped with others; see `Writer.write_each`."""
        await self._require_ready(doing)
        return await self._writer.write_each(doing, batch, item)

    async def change(self, doing: str, act: Callable[[Connection], T | OpmasError]) -> T:
        """Commit what `act` does by itself; an error that it returns is raised, and undoes nothing."""
        return await self.do(doing, lambda on, _: [act(on)], None)

    async def look(self, doing: str, read: Callable[[Connection], T]) -> T:
        """Read in one transaction."""
        await self._require_ready(doing)
        return await self._look(doing, read)

    async def _require_ready(self, doing: str) -> None:
        """Wait while it is not known yet whether the database is there; raises `DatabaseUnavailable` if it is not."""
        if self._tried.is_set() and not self._unready:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._tried.wait()
        if self._unready:
            raise DatabaseUnavailable(f"cannot {doing}: {self._unready}", self._hint)
