"""Changes that arrive together are committed together, and fail alone."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_manager.store import AgentRow, EventRow, Store
from opmas.wire.errors import Conflict, DatabaseUnavailable

ROW = AgentRow(id="a", package="p", name="n")


async def test_of_200_concurrent_writes_only_the_one_that_breaks_a_rule_fails(store: Store) -> None:
    rows = [replace(ROW, id=f"agent-{number:03}", replicas=-1 if number == 117 else 1) for number in range(200)]

    async with asyncio.timeout(20):
        results = await asyncio.gather(*(store.save_agent(row) for row in rows), return_exceptions=True)

    assert [number for number, result in enumerate(results) if result is not None] == [117]
    assert isinstance(results[117], Conflict)
    assert [row.id for row in await store.agents()] == [row.id for row in rows if row.replicas > 0]


async def test_concurrent_writes_share_transactions(store: Store) -> None:
    transactions = set[object]()

    async def change(connection: AsyncConnection) -> None:
        transactions.add(connection.get_transaction())

    async with asyncio.timeout(20):
        await asyncio.gather(*(store.write(change) for _ in range(200)))

    assert len(transactions) <= 2


async def test_changes_are_committed_in_the_order_they_came(store: Store) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(store.save_agent(replace(ROW, replicas=number)) for number in range(50)))

    assert [row.replicas for row in await store.agents()] == [49]


async def test_an_error_of_the_caller_own_making_reaches_the_caller_and_nobody_else(store: Store) -> None:
    async def broken(_: AsyncConnection) -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(20):
        failed, saved = await asyncio.gather(store.write(broken), store.save_agent(ROW), return_exceptions=True)

    assert isinstance(failed, ZeroDivisionError)
    assert saved is None
    assert await store.agents() == [ROW]


async def test_a_caller_cancelled_in_the_queue_takes_its_change_back(store: Store) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))
        entered.set()
        await go_on.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write(slow), name="slow write")
        await entered.wait()
        queued = tasks.create_task(store.save_agent(ROW), name="queued write")
        await asyncio.sleep(0)  # let it reach the queue
        queued.cancel()
        go_on.set()

    assert await store.agents() == []


async def test_closing_commits_what_is_queued_and_refuses_what_comes_after(database_url: str) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        async with Store.open(database_url) as store:
            await store.migrate()
            last = tasks.create_task(store.add_events([EventRow(node="n", agent_id="a", kind="k")]), name="last write")
            await asyncio.sleep(0)  # let it reach the queue
        with pytest.raises(DatabaseUnavailable, match="the store is closed"):
            await store.add_events([EventRow(node="n", agent_id="a", kind="k")])

    async with Store.open(database_url) as store:
        assert [row.id for row in await store.events()] == await last


async def test_an_error_in_the_body_leaves_the_store_unwrapped(database_url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Store.open(database_url):
            raise ZeroDivisionError
