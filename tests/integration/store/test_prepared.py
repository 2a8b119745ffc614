"""A prepared statement does on both back ends what SQLAlchemy would, whatever the values."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select

from management_api.store import ApiStore
from management_api.store.schema import SESSIONS
from opmas.database.prepared import Prepared
from opmas.wire.errors import Conflict, InvalidRequest
from opmas.wire.messages import now

KEEP = Prepared(insert(SESSIONS))
FIND = Prepared(
    select(SESSIONS.c.id, SESSIONS.c.title, SESSIONS.c.created_at)
    .where(SESSIONS.c.id.in_(bindparam("ids", expanding=True)), SESSIONS.c.agent_id.in_(["echo", "other"]))
    .order_by(SESSIONS.c.id)
    .limit(bindparam("limit"))
)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with ApiStore.open(database_url) as store:
        await store.prepare()
        yield store


def session(name: str, **changed: Any) -> dict[str, Any]:
    row = {"workspace": "acme", "id": name, "agent_id": "echo", "user_id": "ann", "title": "a\0b"}
    return row | {"created_at": now(), "updated_at": now()} | changed


async def keep(store: ApiStore, *sessions: dict[str, Any]) -> None:
    await store.change("keep sessions", lambda on: KEEP.each(on, sessions))


async def test_values_come_back_as_they_were_kept(store: ApiStore) -> None:
    kept = session("one")
    await keep(store, kept)

    found = await store.look("find sessions", lambda on: FIND.rows(on, {"ids": ["one"], "limit": 9}))

    assert found == [{"id": "one", "title": "a\ufffdb", "created_at": kept["created_at"]}]


@pytest.mark.parametrize("wanted", [[], ["b"], ["b", "d", "x"], ["a", "b", "c", "d", "e"]])
async def test_a_list_may_be_of_any_length(store: ApiStore, wanted: list[str]) -> None:
    await keep(store, *map(session, "abcde"))

    def find(on: Connection) -> list[dict[str, Any]]:
        return FIND.rows(on, {"ids": wanted, "limit": 9})

    assert [row["id"] for row in await store.look("find sessions", find)] == [one for one in wanted if one != "x"]


async def test_a_value_that_no_column_holds_is_refused(store: ApiStore) -> None:
    with pytest.raises(InvalidRequest, match="cannot keep sessions"):
        await keep(store, session("naive", created_at=datetime(2026, 1, 1)))


async def test_a_row_that_is_there_already_is_a_conflict(store: ApiStore) -> None:
    await keep(store, session("twice"))

    with pytest.raises(Conflict, match="cannot keep sessions"):
        await keep(store, session("twice"))
