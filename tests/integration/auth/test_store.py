"""What the API remembers of its keys, on each back end, beside the manager's tables."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from agent_manager.store import Store
from management_api.store import ApiStore, KeyRow
from management_api.store.schema import METADATA
from opmas.wire.errors import Conflict, DatabaseUnavailable

BRANCH = ApiStore.revisions.name


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with ApiStore.open(database_url) as store:
        await store.prepare()
        yield store


def key(number: int, workspace: str = "a") -> KeyRow:
    return KeyRow(
        id=f"k{number}", hash=f"{number:064}", name="na\0me", roles=["viewer"], workspace=workspace, created_by="admin",
        created_at=datetime(2026, 1, number, tzinfo=UTC), expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip


async def test_keys_are_found_by_hash_listed_by_workspace_marked_and_revoked(store: ApiStore) -> None:
    for row in (key(1), key(2), key(3, "b")):
        await store.add_key(row)
    used = datetime.now(UTC) - timedelta(hours=1)
    await store.mark_used({"k1": used, "gone": used})

    found = await store.key_by_hash(key(1).hash)
    assert found is not None
    assert (found.last_used_at, found.name, found.roles) == (used, "na\ufffdme", ["viewer"])
    assert await store.key_by_hash("0") is None
    assert [row.id for row in await store.keys()] == ["k3", "k2", "k1"]
    assert [row.id for row in await store.keys("b")] == ["k3"]

    assert [await store.revoke_key("k1", "b"), await store.revoke_key("k1", "a"), await store.revoke_key("x")] == [
        False,
        True,
        False,
    ]
    revoked = (await store.key_by_hash(key(1).hash) or key(1)).revoked_at
    assert revoked is not None
    assert await store.revoke_key("k1")
    assert (await store.key_by_hash(key(1).hash) or key(1)).revoked_at == revoked


async def test_two_keys_of_one_hash_are_refused(store: ApiStore) -> None:
    await store.add_key(key(1))

    with pytest.raises(Conflict):
        await store.add_key(key(1))


async def test_both_servers_may_share_a_database(store: ApiStore, database_url: str) -> None:
    await store.add_key(key(1))

    async with Store.open(database_url) as manager:
        await manager.migrate()
        await store.prepare()

        assert await manager.agents() == []
    assert len(await store.keys()) == 1


async def test_the_migrated_tables_are_the_ones_the_code_believes_in(store: ApiStore) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"version_table": migrations.version_table(BRANCH), "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))

    async def compare(connection: AsyncConnection) -> list[object]:
        return await connection.run_sync(differences)

    assert await store.write(compare) == []


def test_the_head_that_an_ordinary_start_looks_for_is_the_newest_revision() -> None:
    script = ScriptDirectory.from_config(migrations.configuration(None, BRANCH))

    assert script.get_heads() == [ApiStore.revisions.head]


async def test_a_database_of_a_newer_version_is_unavailable_with_what_to_do(store: ApiStore, database_url: str) -> None:
    async def age(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("UPDATE alembic_version_management_api SET version_num = 'api9999'")

    await store.write(age)

    async with ApiStore.open(database_url) as older:
        await older.prepare()
        with pytest.raises(DatabaseUnavailable, match="a newer OPMAS made it") as refused:
            await older.keys()
    assert "upgrade OPMAS" in refused.value.hint
