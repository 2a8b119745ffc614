"""A database that is away, frozen or locked costs an error in time; the store heals by itself when it is back."""

import asyncio
import socket
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import pytest

from agent_manager.store import EventRow, Store
from management_api.store import ApiStore, Ledger
from opmas.wire.errors import DatabaseUnavailable
from tests.conftest import Postgres

EVENT = EventRow(node="here", agent_id="echo", kind="status")
TIMEOUT_S = 0.5  # of the store; a tenth of the default


async def assert_unavailable(*calls: Awaitable[object]) -> None:
    async with asyncio.timeout(10):
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        assert isinstance(result, DatabaseUnavailable)
        assert result.message.startswith("cannot ")
        assert "OPMAS_DATABASE__URL" in result.hint


async def test_a_stopped_postgresql_is_unavailable_and_found_again_when_it_starts(
    postgres: Postgres, postgres_url: str
) -> None:
    async with Store.open(postgres_url, timeout_s=TIMEOUT_S) as store:
        await store.migrate()
        await store.add_events([EVENT])
        postgres.stop()
        try:
            await assert_unavailable(store.ping(), store.events(), store.add_events([EVENT]), store.migrate())
        finally:
            postgres.start()

        assert len(await store.add_events([EVENT])) == 1
        assert len(await store.events()) == 2


async def test_a_frozen_postgresql_hangs_nobody(postgres: Postgres, postgres_url: str) -> None:
    async with Store.open(postgres_url, timeout_s=TIMEOUT_S) as store:
        await store.migrate()
        await store.add_events([EVENT])
        postgres.pause()
        try:
            await assert_unavailable(store.ping(), store.events(), store.migrate())
            await assert_unavailable(*(store.add_events([EVENT]) for _ in range(20)))
        finally:
            postgres.resume()

        assert len(await store.add_events([EVENT])) == 1


async def test_a_store_on_a_frozen_postgresql_can_be_closed(postgres: Postgres, postgres_url: str) -> None:
    try:
        async with asyncio.timeout(10), Store.open(postgres_url, timeout_s=TIMEOUT_S) as store:
            await store.migrate()
            await asyncio.gather(store.ping(), store.ping(), store.add_events([EVENT]))
            postgres.pause()
    finally:
        postgres.resume()


async def test_a_server_that_accepts_and_says_nothing_hangs_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody reads
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
        async with Store.open(url, timeout_s=TIMEOUT_S) as store:
            await assert_unavailable(store.ping(), store.add_events([EVENT]), store.migrate())


async def test_a_sqlite_file_locked_by_another_writer_is_unavailable_until_released(tmp_path: Path) -> None:
    file = tmp_path / "opmas.db"
    async with Store.open(f"sqlite:///{file}", timeout_s=TIMEOUT_S) as store:
        await store.migrate()
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        await assert_unavailable(store.add_events([EVENT]), store.migrate())
        assert await store.events() == []  # readers are not kept waiting

        other.rollback()
        other.close()
        assert len(await store.add_events([EVENT])) == 1


async def test_batches_too_are_unavailable_while_a_sqlite_file_is_locked_and_committed_when_it_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "opmas.db"
    async with ApiStore.open(f"sqlite:///{file}", timeout_s=TIMEOUT_S) as store:
        await store.prepare()
        ledger = Ledger(store)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        await assert_unavailable(*(ledger.fail_pending("echo", "it is gone", "deleted") for _ in range(3)))
        assert await ledger.run("none") is None  # readers are not kept waiting

        other.rollback()
        other.close()
        assert await ledger.fail_pending("echo", "it is gone", "deleted") == ()


async def test_a_file_that_is_no_database_is_unavailable_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "opmas.db"
    file.write_text("a letter, not a database\n" * 100)
    async with Store.open(f"sqlite:///{file}") as store:
        await assert_unavailable(store.migrate(), store.ping())

    assert file.read_text().startswith("a letter")


async def test_the_password_is_in_no_error() -> None:
    async with Store.open("postgresql://u:hunter2@127.0.0.1:1/d", timeout_s=TIMEOUT_S) as store:
        with pytest.raises(DatabaseUnavailable) as caught:
            await store.ping()

    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
