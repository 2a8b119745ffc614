"""The changes that the store commits: each function returns one, to be carried out on the writer's connection."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_manager.store.rows import AgentRow, AuditRow, EventRow, InstanceRow, NodeRow
from agent_manager.store.schema import AGENTS, INSTANCES
from opmas.database import Change
from opmas.wire.errors import Conflict
from opmas.wire.messages import now
from opmas.wire.status import Desired

# So many rows are deleted within the deadline of one transaction on a slow disk, too.
_PRUNE_LIMIT = 5000


def save_agent(row: AgentRow, if_generation: int | None) -> Change[None]:
    """Insert or replace an agent, on condition."""

    async def change(connection: AsyncConnection) -> None:
        condition = None if if_generation is None else AGENTS.c.generation == if_generation
        statement = upsert(connection, AGENTS, instead={"created_at": AGENTS.c.created_at}, where=condition).returning(
            AGENTS.c.id
        )
        if (await connection.execute(statement, values_of(row))).first() is None:
            message = f"cannot save agent {row.id}: it was changed since generation {if_generation} was read"
            raise Conflict(message, "read the agent again and retry")

    return change


def delete_agent(agent_id: str) -> Change[None]:
    """Turn an agent into a tombstone without instances."""

    async def change(connection: AsyncConnection) -> None:
        tombstone = update(AGENTS).where(AGENTS.c.id == agent_id)
        await connection.execute(
            tombstone.values(
                deleted=True, desired=Desired.STOPPED, generation=AGENTS.c.generation + 1, updated_at=now()
            )
        )
        await connection.execute(delete(INSTANCES).where(INSTANCES.c.agent_id == agent_id))

    return change


def forget_agent(agent_id: str) -> Change[None]:
    """Delete an agent and its instances."""

    async def change(connection: AsyncConnection) -> None:
        await connection.execute(delete(INSTANCES).where(INSTANCES.c.agent_id == agent_id))
        await connection.execute(delete(AGENTS).where(AGENTS.c.id == agent_id))

    return change


def save_instances(rows: Sequence[InstanceRow]) -> Change[None]:
    """Insert or replace the instances of agents that are still there."""

    async def change(connection: AsyncConnection) -> None:
        # The lock keeps another manager from deleting an agent between this look and the insert.
        wanted = {row.agent_id for row in rows}
        living = select(AGENTS.c.id).where(AGENTS.c.id.in_(wanted), ~AGENTS.c.deleted)
        there = set((await connection.execute(living.order_by(AGENTS.c.id).with_for_update(read=True))).scalars())
        values = [values_of(row) for row in rows if row.agent_id in there]
        if values:
            await connection.execute(upsert(connection, INSTANCES), values)

    return change


def delete_instances(agent_id: str, from_ordinal: int) -> Change[None]:
    """Delete the instances of an agent from an ordinal upwards."""

    async def change(connection: AsyncConnection) -> None:
        gone = (INSTANCES.c.agent_id == agent_id) & (INSTANCES.c.ordinal >= from_ordinal)
        await connection.execute(delete(INSTANCES).where(gone))

    return change


def add(table: Table, rows: Sequence[EventRow] | Sequence[AuditRow]) -> Change[list[int]]:
    """Append rows; their ids come back in the same order."""

    async def change(connection: AsyncConnection) -> list[int]:
        values = [values_of(row) for row in rows]
        for value in values:
            del value["id"]
        statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        return list((await connection.execute(statement, values)).scalars())

    return change


def prune(table: Table, before: datetime) -> Change[int]:
    """Delete the oldest rows from before a time, a limited number at once; say how many."""

    async def change(connection: AsyncConnection) -> int:
        oldest = select(table.c.id).where(table.c.time < before).order_by(table.c.time).limit(_PRUNE_LIMIT)
        return int((await connection.execute(delete(table).where(table.c.id.in_(oldest)))).rowcount)

    return change


def upsert(
    connection: AsyncConnection,
    table: Table,
    *,
    instead: Mapping[str, ColumnElement[Any]] = MappingProxyType({}),
    where: ColumnElement[bool] | None = None,
) -> Insert:
    """Build an INSERT that replaces the row of the same key if `where` holds; `instead` sets columns otherwise."""
    # Both back ends spell it alike, but as two unrelated classes.
    make: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[connection.dialect.name]
    statement: Insert = make(table)
    replaced: dict[str, ColumnElement[Any]] = {
        column.name: statement.excluded[column.name] for column in table.c if not column.primary_key
    }
    replaced.update(instead)
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced, where=where)


def values_of(row: AgentRow | InstanceRow | EventRow | AuditRow | NodeRow) -> dict[str, Any]:
    """Return a row's columns; JSON values are passed on, not copied."""
    return {field.name: getattr(row, field.name) for field in fields(row)}
