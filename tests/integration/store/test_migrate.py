"""Every start brings the database to this version's form, once, or says why it cannot."""

import asyncio

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from agent_manager.store import AgentRow, InstanceRow, Store
from agent_manager.store.migrate import BRANCH, HEAD
from agent_manager.store.schema import METADATA
from opmas.wire.errors import Conflict

VERSION_TABLE = migrations.version_table(BRANCH)


def differences(connection: Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


async def test_the_migrated_tables_are_the_ones_the_code_believes_in(store: Store) -> None:
    async def compare(connection: AsyncConnection) -> list[object]:
        return await connection.run_sync(differences)

    assert await store.write(compare) == []


async def test_managers_that_start_together_migrate_once(database_url: str) -> None:
    async with asyncio.timeout(30), Store.open(database_url) as first, Store.open(database_url) as second:
        await asyncio.gather(first.migrate(), second.migrate(), first.migrate())

        await second.save_agent(AgentRow(id="a", package="p", name="n"))
        assert [row.id for row in await first.agents()] == ["a"]


async def test_migrating_again_keeps_what_is_there(store: Store) -> None:
    row = AgentRow(id="a", package="p", name="n")
    await store.save_agent(row)

    await store.migrate()

    assert await store.agents() == [row]


async def test_what_an_older_version_has_stored_outlives_the_upgrade(store: Store) -> None:
    async def age(connection: AsyncConnection) -> None:
        await connection.run_sync(
            lambda sync: alembic.command.downgrade(migrations.configuration(sync, BRANCH), "am0001")
        )

    row, instance = AgentRow(id="a", package="p", name="n"), InstanceRow(agent_id="a", ordinal=0, node="here")
    await store.save_agent(row)
    await store.save_instances([instance])
    await store.write(age)

    await store.migrate()

    assert await store.agents() == [row]
    assert await store.instances() == [instance]


async def test_a_database_made_by_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    async def age(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE alembic_version_agent_manager SET version_num = 'am9999'"))

    await store.write(age)

    with pytest.raises(Conflict, match=r"revision am9999, .* a newer OPMAS made it") as caught:
        await store.migrate()

    assert "upgrade OPMAS" in caught.value.hint
    assert await store.agents() == []


async def test_the_tables_of_postgresql_stand_in_a_schema_of_their_own(postgres_url: str) -> None:
    async def count(connection: AsyncConnection) -> int:
        query = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        return int((await connection.execute(query)).scalar_one())

    async with Store.open(postgres_url) as store:
        await store.migrate()
        assert await store.write(count) == 0


def test_the_head_that_an_ordinary_start_looks_for_is_the_newest_revision() -> None:
    script = ScriptDirectory.from_config(migrations.configuration(None, BRANCH))

    assert script.get_heads() == [HEAD]
