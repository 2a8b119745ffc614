"""Changes of one kind that arrive together are one call and one transaction, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection, func, select, text

from management_api.store import ApiStore
from management_api.store.schema import AUDIT
from opmas.wire.errors import Conflict, OpmasError, SessionBusy

_INSERT = text(
    "INSERT INTO api_run_audit (time, workspace, actor, action, agent_id, run_id, outcome)"
    " VALUES ('2026-01-01 00:00:00+00', 'w', 'x', 'run', 'a', :run, 'o')"
)


async def count(store: ApiStore) -> int:
    query = select(func.count()).select_from(AUDIT)
    return await store.look("count", lambda on: on.execute(query).scalar_one())


async def test_what_arrives_together_is_done_in_one_call(store: ApiStore) -> None:
    sizes: list[int] = []

    def batch(connection: Connection, items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [item * 2 for item in items]

    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(store.do("double", batch, number) for number in range(100)))

    assert answers == [number * 2 for number in range(100)]
    assert len(sizes) <= 2


async def test_an_error_for_one_undoes_nothing_of_the_others(store: ApiStore) -> None:
    def batch(connection: Connection, items: Sequence[int]) -> list[int | OpmasError]:
        connection.execute(_INSERT, [{"run": str(item)} for item in items if item != 3])
        return [SessionBusy("cannot: it is 3") if item == 3 else item for item in items]

    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(store.do("insert", batch, n) for n in range(6)), return_exceptions=True)

    assert [number for number, answer in enumerate(answers) if isinstance(answer, SessionBusy)] == [3]
    assert await count(store) == 5


async def test_what_the_database_refuses_fails_alone(store: ApiStore) -> None:
    def batch(connection: Connection, items: Sequence[int]) -> list[int]:
        for item in items:
            connection.execute(_INSERT, {"run": None if item == 3 else str(item)})
        return list(items)

    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(store.do("insert", batch, n) for n in range(6)), return_exceptions=True)

    assert [number for number, answer in enumerate(answers) if isinstance(answer, Conflict)] == [3]
    assert await count(store) == 5
