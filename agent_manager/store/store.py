"""The manager's memory of what should run, what was last known of it, and what happened: on SQLite or PostgreSQL.

Every call has a deadline of at most ten seconds and raises `DatabaseUnavailable` when the database does not answer; the
next call finds it by itself when it is back. What to remember and when is the business of others.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, select

from agent_manager.store import lease, records
from agent_manager.store.migrate import REVISIONS
from agent_manager.store.rows import AgentRow, AuditRow, EventRow, InstanceRow, NodeRow
from agent_manager.store.schema import AGENTS, AUDIT, EVENTS, INSTANCES, NODES
from opmas.database import Database


class Store(Database):
    """The one door to the manager's database: `async with Store.open(url) as store: await store.migrate()`."""

    revisions = REVISIONS

    # --- what should run, and what was last known of it -----------------------------------------------------------

    async def agents(self) -> list[AgentRow]:
        """Load every agent, tombstones included."""
        rows = await self._read("load the agents", select(AGENTS).order_by(AGENTS.c.id))
        return [AgentRow(**row._mapping) for row in rows]

    async def instances(self) -> list[InstanceRow]:
        """Load every instance."""
        rows = await self._read("load the instances", select(INSTANCES).order_by(*INSTANCES.primary_key.columns))
        return [InstanceRow(**row._mapping) for row in rows]

    async def save_agent(self, row: AgentRow, if_generation: int | None = None) -> None:
        """Insert or replace an agent; `created_at` stays as first saved.

        With `if_generation`, raises `Conflict` unless the stored row has that generation: another manager was quicker.
        """
        await self._writer.write(f"save agent {row.id}", records.save_agent(row, if_generation))

    async def delete_agent(self, agent_id: str) -> None:
        """Forget an agent's instances and leave its tombstone; saving it again with `deleted=False` brings it back."""
        await self._writer.write(f"delete agent {agent_id}", records.delete_agent(agent_id))

    async def forget_agent(self, agent_id: str) -> None:
        """Remove an agent and its instances without a trace but its history: should its package return, it is new."""
        await self._writer.write(f"forget agent {agent_id}", records.forget_agent(agent_id))

    async def save_instances(self, rows: Sequence[InstanceRow]) -> None:
        """Insert or replace instances in one transaction; those of an agent deleted meanwhile are left out."""
        if rows:
            await self._writer.write("save the instances", records.save_instances(rows))

    async def delete_instances(self, agent_id: str, from_ordinal: int) -> None:
        """Forget the instances that scaling down has removed: those numbered `from_ordinal` and above."""
        await self._writer.write(
            f"delete instances of agent {agent_id}", records.delete_instances(agent_id, from_ordinal)
        )

    # --- what happened --------------------------------------------------------------------------------------------

    async def add_events(self, rows: Sequence[EventRow]) -> list[int]:
        """Append events; return their ids in the same order."""
        return await self._writer.write("record events", records.add(EVENTS, rows)) if rows else []

    async def add_audit(self, row: AuditRow) -> int:
        """Append one audit row; return its id."""
        return (await self.add_audit_rows([row]))[0]

    async def add_audit_rows(self, rows: Sequence[AuditRow]) -> list[int]:
        """Append audit rows; return their ids in the same order."""
        return await self._writer.write("record audit rows", records.add(AUDIT, rows)) if rows else []

    async def events(self, agent_id: str | None = None, after: int | None = None, limit: int = 100) -> list[EventRow]:
        """Return up to `limit` events, oldest first: those that follow id `after`, or the newest ones without it."""
        return [EventRow(**row._mapping) for row in await self._history(EVENTS, agent_id, after, limit)]

    async def audit(self, agent_id: str | None = None, after: int | None = None, limit: int = 100) -> list[AuditRow]:
        """Return up to `limit` audit rows, as `events` does."""
        return [AuditRow(**row._mapping) for row in await self._history(AUDIT, agent_id, after, limit)]

    async def prune(self, before: datetime) -> int:
        """Delete events and audit rows older than `before`; return how many."""
        removed = 0
        for table in (EVENTS, AUDIT):
            while count := await self._writer.write("prune the history", records.prune(table, before)):
                removed += count
        return removed

    # --- who runs a node ------------------------------------------------------------------------------------------

    async def nodes(self) -> list[NodeRow]:
        """Load every node that ever held a lease."""
        rows = await self._read("load the nodes", select(NODES).order_by(NODES.c.id))
        return [NodeRow(**row._mapping) for row in rows]

    async def claim_node(
        self, node_id: str, incarnation: str, ttl_s: float, *, version: str = "", force: bool = False
    ) -> NodeRow:
        """Take the lease of a node for `ttl_s` seconds of the database's clock.

        Raises `Conflict` while another incarnation's lease lives, unless `force`: for a manager that can prove the
        other one dead, by the lock it holds on the data directory they share.
        """
        claim = lease.claim(node_id, incarnation, ttl_s, version=version, force=force)
        return await self._writer.write(f"claim node {node_id}", claim)

    async def renew_node(self, node_id: str, incarnation: str, ttl_s: float) -> NodeRow:
        """Prolong the lease; raises `Conflict` if another incarnation has taken the node over."""
        return await self._writer.write(f"renew node {node_id}", lease.renew(node_id, incarnation, ttl_s))

    async def release_node(self, node_id: str, incarnation: str) -> None:
        """End the lease now, if it is still this incarnation's."""
        await self._writer.write(f"release node {node_id}", lease.release(node_id, incarnation))

    async def _history(self, table: Table, agent_id: str | None, after: int | None, limit: int) -> Sequence[Row[Any]]:
        newest_first = after is None
        query = select(table).order_by(table.c.id.desc() if newest_first else table.c.id).limit(limit)
        if agent_id is not None:
            query = query.where(table.c.agent_id == agent_id)
        if after is not None:
            query = query.where(table.c.id > after)
        rows = list(await self._read(f"load the {table.name}", query))
        if newest_first:
            rows.reverse()
        return rows
