"""Sessions: runs that share a conversation. What was said in them is read from their runs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, case, delete, func, insert, select, update

from management_api.store.draft import pairs
from management_api.store.rows import SessionFilter, SessionRow
from management_api.store.schema import RUNS, SESSIONS
from opmas.wire.errors import OpmasError, SessionBusy, SessionNotFound
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus, Turn

_COMPLETED = RUNS.c.status == RunStatus.COMPLETED


def create(connection: Connection, row: SessionRow) -> SessionRow:
    """Begin a session; one of that id is the same if its agent and user are, else the new one gets another id."""
    if (there := get(connection, row.workspace, row.id)) is not None:
        if (there.agent_id, there.user_id) == (row.agent_id, row.user_id):
            return there
        row = replace(row, id=uuid4().hex)
    connection.execute(insert(SESSIONS), {column.name: getattr(row, column.name) for column in SESSIONS.c})
    return row


def get(connection: Connection, workspace: str | None, session_id: str) -> SessionRow | None:
    """Read a session; without a workspace the first of that id."""
    chosen = [SESSIONS.c.id == session_id] if workspace is None else _is(workspace, session_id)
    found = _rows(connection, select(SESSIONS).where(*chosen).limit(1))
    return found[0] if found else None


def page(connection: Connection, asked: SessionFilter) -> tuple[tuple[SessionRow, ...], int]:
    """Read a page of the sessions that match, the last used first, and count them all."""
    equal = {name: getattr(asked, name) for name in ("workspace", "user_id", "agent_id")}
    chosen = [SESSIONS.c[name] == value for name, value in equal.items() if value is not None]
    total = connection.execute(select(func.count()).select_from(SESSIONS).where(*chosen)).scalar_one()
    query = select(SESSIONS).where(*chosen).order_by(SESSIONS.c.updated_at.desc(), SESSIONS.c.id)
    return tuple(_rows(connection, query.limit(asked.limit).offset(asked.offset))), total


def messages(connection: Connection, workspace: str, session_id: str, limit: int) -> tuple[Turn, ...]:
    """Read what was said, oldest first: what callers asked and what was answered, of the newest `limit` runs."""
    query = (
        select(RUNS.c.message, RUNS.c.created_at, RUNS.c.status, RUNS.c.content, RUNS.c.ended_at)
        .where(*_of(workspace, session_id))
        .order_by(RUNS.c.number.desc())
        .limit(limit)
    )
    turns: list[Turn] = []
    for row in reversed(connection.execute(query).all()):
        turns.append(Turn(role="user", content=row.message, time=row.created_at))
        if row.status is RunStatus.COMPLETED:
            turns.append(Turn(role="assistant", content=row.content or "", time=row.ended_at))
    return tuple(turns)


def rename(connection: Connection, workspace: str, session_id: str, title: str) -> SessionRow | OpmasError:
    """Give a session another title."""
    connection.execute(update(SESSIONS).where(*_is(workspace, session_id)).values(title=title, updated_at=now()))
    return get(connection, workspace, session_id) or _missing("rename", session_id)


def remove(connection: Connection, workspace: str, session_id: str) -> OpmasError | None:
    """Delete a session with its runs, their events and confirmations; refused while one of them is under way."""
    chosen = select(SESSIONS.c.id).where(*_is(workspace, session_id)).with_for_update()
    if connection.execute(chosen).first() is None:
        return _missing("delete", session_id)
    under_way = select(RUNS.c.id).where(*_of(workspace, session_id), RUNS.c.ended_at.is_(None)).limit(1)
    if (run := connection.execute(under_way).first()) is not None:
        return SessionBusy(
            f"cannot delete session {session_id}: its run {run.id} is under way", "cancel that run first"
        )
    connection.execute(delete(RUNS).where(*_of(workspace, session_id)))
    connection.execute(delete(SESSIONS).where(*_is(workspace, session_id)))
    return None


def _missing(act: str, session_id: str) -> SessionNotFound:
    return SessionNotFound(f"cannot {act} session {session_id}: there is no such session")


def _is(workspace: str, session_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return SESSIONS.c.workspace == workspace, SESSIONS.c.id == session_id


def _of(workspace: str, session_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return RUNS.c.workspace == workspace, RUNS.c.session_id == session_id


def _rows(connection: Connection, query: Any) -> list[SessionRow]:
    found = connection.execute(query).mappings().all()
    counts = _counts(connection, [(row["workspace"], row["id"]) for row in found])
    return [SessionRow(**(dict(row) | counts.get((row["workspace"], row["id"]), {}))) for row in found]


def _counts(connection: Connection, chosen: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, int]]:
    """Count what is in sessions when they are looked at, rather than with every run."""
    if not chosen:
        return {}
    query = (
        select(
            RUNS.c.workspace,
            RUNS.c.session_id,
            func.count(),
            func.sum(case((_COMPLETED, 1), else_=0)),
            func.sum(RUNS.c.tokens),
        )
        .where(pairs(RUNS.c.workspace, RUNS.c.session_id, chosen))
        .group_by(RUNS.c.workspace, RUNS.c.session_id)
    )
    return {
        (workspace, session): {"run_count": runs, "message_count": runs + answers, "total_tokens": tokens}
        for workspace, session, runs, answers, tokens in connection.execute(query)
    }
