"""A node's lease: one manager at a time runs a node, proved by compare-and-set on the database's own clock.

The clock is read before the row is touched. A wait for another's transaction therefore only makes a manager more
cautious: it takes a lease for younger than it is, never for older.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_manager.store.records import upsert, values_of
from agent_manager.store.rows import NodeRow
from agent_manager.store.schema import NODES
from opmas.database import Change
from opmas.database.columns import Utc
from opmas.wire.errors import Conflict

# SQLite's text form of a time, as SQLAlchemy writes and reads it: six digits after the second.
_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"


def claim(node_id: str, incarnation: str, ttl_s: float, *, version: str, force: bool) -> Change[NodeRow]:
    """Take the lease if it is new, run out or ours already; by `force` whosever it is."""

    async def change(connection: AsyncConnection) -> NodeRow:
        clock = await _clock(connection)
        wanted = NodeRow(
            id=node_id,
            incarnation=incarnation,
            generation=1,
            lease_until=clock + timedelta(seconds=ttl_s),
            started_at=clock,
            version=version,
        )
        free = true() if force else or_(NODES.c.lease_until <= clock, NODES.c.incarnation == incarnation)
        statement = upsert(connection, NODES, instead={"generation": NODES.c.generation + 1}, where=free)
        row = (await connection.execute(statement.returning(NODES), values_of(wanted))).first()
        if row is None:
            held = select(NODES.c.lease_until).where(NODES.c.id == node_id)
            until = (await connection.execute(held)).scalar_one()
            message = (
                f"cannot claim node {node_id}: another manager runs it (its lease lasts until {until:%H:%M:%S} UTC)"
            )
            raise Conflict(message, "stop the other manager, or give this one a node name of its own")
        return NodeRow(**row._mapping)

    return change


def renew(node_id: str, incarnation: str, ttl_s: float) -> Change[NodeRow]:
    """Prolong a lease that is still ours; one that ran out is, as long as nobody took it."""

    async def change(connection: AsyncConnection) -> NodeRow:
        until = await _clock(connection) + timedelta(seconds=ttl_s)
        ours = (NODES.c.id == node_id) & (NODES.c.incarnation == incarnation)
        row = (await connection.execute(update(NODES).where(ours).values(lease_until=until).returning(NODES))).first()
        if row is None:
            message = f"cannot renew the lease of node {node_id}: another manager has taken it over"
            raise Conflict(message, "stop this manager, or give it a node name of its own")
        return NodeRow(**row._mapping)

    return change


def release(node_id: str, incarnation: str) -> Change[None]:
    """End a lease that is still ours."""

    async def change(connection: AsyncConnection) -> None:
        ours = (NODES.c.id == node_id) & (NODES.c.incarnation == incarnation)
        await connection.execute(update(NODES).where(ours).values(lease_until=await _clock(connection)))

    return change


async def _clock(connection: AsyncConnection) -> datetime:
    if connection.dialect.name == "sqlite":
        clock = func.strftime(_SQLITE_FORMAT, "now", type_=Utc)
    else:
        clock = func.clock_timestamp(type_=Utc)
    now: datetime = (await connection.execute(select(clock))).scalar_one()
    return now
