"""Runs and their audit as lists, and forgetting what is old."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, select

from management_api.store.draft import Lock, load_prepared, newest, prepared
from management_api.store.rows import RunAuditRow, RunFilter, RunRow
from management_api.store.schema import AUDIT, FILES, RUNS, SESSIONS
from opmas.database.prepared import Prepared

PORTION = 200
"""So many runs are forgotten in one transaction: with their frames that is a few ms, in which nobody else can write."""

_RUN = prepared(RUNS.c.id == bindparam("id"), lock=Lock.NONE)
_POSITIONS = Prepared(select(RUNS.c.id, RUNS.c.seq).where(RUNS.c.id.in_(bindparam("ids", expanding=True))))


def run(connection: Connection, run_id: str) -> RunRow | None:
    """Read a run."""
    return next(iter(load_prepared(connection, _RUN, id=run_id)), None)


def runs(connection: Connection, asked: RunFilter) -> tuple[tuple[RunRow, ...], int]:
    """Read a page of the runs that match, the newest first, and count them all."""
    chosen = _chosen(asked)
    total = connection.execute(select(func.count()).select_from(RUNS).where(*chosen)).scalar_one()
    return tuple(newest(connection, *chosen, limit=asked.limit, offset=asked.offset)), total


def _chosen(asked: RunFilter) -> list[ColumnElement[bool]]:
    equal = {name: getattr(asked, name) for name in ("workspace", "user_id", "agent_id", "session_id", "status")}
    chosen: list[ColumnElement[bool]] = [RUNS.c[name] == value for name, value in equal.items() if value is not None]
    return chosen if asked.since is None else [*chosen, RUNS.c.created_at >= asked.since]


def positions(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """Read the number of the last event of each run."""
    return {row["id"]: row["seq"] for row in _POSITIONS.rows(connection, {"ids": list(run_ids)})}


def audit(connection: Connection, workspace: str | None, after: int, limit: int) -> tuple[RunAuditRow, ...]:
    """Read what was done to runs after entry `after`, oldest first."""
    query = select(AUDIT).where(AUDIT.c.id > after).order_by(AUDIT.c.id).limit(limit)
    found = connection.execute(query if workspace is None else query.where(AUDIT.c.workspace == workspace))
    return tuple(RunAuditRow(**row) for row in found.mappings())


def forget_runs(connection: Connection, before: datetime) -> int:
    """Delete a portion of the runs that ended before, with their events and confirmations; returns how many."""
    old = select(RUNS.c.number).where(RUNS.c.ended_at < before).limit(PORTION)
    return connection.execute(delete(RUNS).where(RUNS.c.number.in_(old.scalar_subquery()))).rowcount


def forget_rest(connection: Connection, before: datetime) -> None:
    """Delete sessions that were last used before and have no runs any more, and files stored before."""
    used = exists().where(RUNS.c.workspace == SESSIONS.c.workspace, RUNS.c.session_id == SESSIONS.c.id)
    connection.execute(delete(SESSIONS).where(SESSIONS.c.updated_at < before, ~used))
    connection.execute(delete(FILES).where(FILES.c.created_at < before))
