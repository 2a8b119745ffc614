"""Changes of runs that one transaction makes, collected and then written in as few statements as there are kinds.

Whoever changes runs reads them with `load`, puts the new state into a `Draft`, and writes it once, however many runs
and events are in it. Rules are the callers'; only how a run is ended by the API itself is spelled here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, and_, bindparam, delete, insert, or_, select, update

from management_api.store.rows import ConfirmationRow, RunAuditRow, RunRow, StoredEvent
from management_api.store.schema import AUDIT, CONFIRMATIONS, FRAMES, RUNS
from opmas.database.prepared import Prepared
from opmas.wire.runs import EventKind, RunEnd, RunEvent, RunStatus

# A frame's events, one on each line: a reader splits the text without parsing it. JSON has no line break of its own.
BREAK = ",\n"

CANCELLED = "it was cancelled before it was done"

_UNSEEN = {"request_hash", "idempotency_key", "tokens"}
_COLUMNS = tuple(column for column in RUNS.c if column.name not in _UNSEEN)
_MOVING = (
    "status", "seq", "epoch", "started_epoch", "attempt", "owner", "owner_start", "lease_until", "stop_by",
    "cancel_requested", "confirmation_id", "started_at", "start_by",
)  # fmt: skip
_ENDING = ("ended_at", "content", "data", "error", "reason", "usage", "tokens")


def _update(names: Iterable[str]) -> Prepared:
    changed: dict[str, Any] = {name: bindparam(name) for name in names}
    return Prepared(update(RUNS).where(RUNS.c.number == bindparam("at")).values(changed))


# Apart, because what names `ended_at` touches every partial index.
_MOVE, _END = _update(_MOVING), _update((*_MOVING, *_ENDING))
_KEEP_FRAMES, _KEEP_CONFIRMATIONS, _KEEP_AUDIT = (Prepared(insert(table)) for table in (FRAMES, CONFIRMATIONS, AUDIT))
_AUDITED = tuple(name for name in AUDIT.c.keys() if name != "id")  # noqa: SIM118 - not a dict
_RUNS = select(*_COLUMNS)


class Lock(StrEnum):
    """What to do about rows that others are changing; whoever changes rows it has read has to lock them."""

    NONE = "none"
    WAIT = "wait"
    SKIP = "skip"
    """Leave them out: for who comes again anyway, and can then stand in nobody's way."""


def prepared(*chosen: ColumnElement[bool], lock: Lock) -> Prepared:
    """Prepare what `load` does; how many at most is a value, `limit`."""
    return Prepared(_loading(chosen, lock).limit(bindparam("limit")))


def load(
    connection: Connection, *chosen: ColumnElement[bool], lock: Lock = Lock.NONE, limit: int = 500
) -> list[RunRow]:
    """Read runs in the order of their arrival, in which all lock them."""
    return _rows(connection, _loading(chosen, lock).limit(limit))


def load_prepared(connection: Connection, query: Prepared, limit: int = 500, **values: Any) -> list[RunRow]:
    """Read runs as `load` does, by a query that `prepared` has made."""
    return _runs(connection, query.rows(connection, values | {"limit": limit}))


def newest(connection: Connection, *chosen: ColumnElement[bool], limit: int, offset: int) -> list[RunRow]:
    """Read runs, the newest first."""
    return _rows(connection, _RUNS.where(*chosen).order_by(RUNS.c.number.desc()).limit(limit).offset(offset))


def _loading(chosen: Iterable[ColumnElement[bool]], lock: Lock) -> Select[Any]:
    query = _RUNS.where(*chosen).order_by(RUNS.c.number)
    return query if lock is Lock.NONE else query.with_for_update(skip_locked=lock is Lock.SKIP)


def _rows(connection: Connection, query: Select[Any]) -> list[RunRow]:
    return _runs(connection, [dict(row) for row in connection.execute(query).mappings()])


def _runs(connection: Connection, found: list[dict[str, Any]]) -> list[RunRow]:
    """Make rows of what was found, each with its last confirmation."""
    asked = [(row["number"], row["confirmation_id"]) for row in found if row["confirmation_id"] is not None]
    known = _confirmations(connection, asked) if asked else {}
    return [RunRow(confirmation=known.get(row.pop("confirmation_id"), {}).get(row["number"]), **row) for row in found]


def _confirmations(
    connection: Connection, asked: Sequence[tuple[int, str]]
) -> dict[str | None, dict[int, ConfirmationRow]]:
    query = (
        select(CONFIRMATIONS, RUNS.c.id.label("run_id"))
        .join(RUNS, RUNS.c.number == CONFIRMATIONS.c.run)
        .where(pairs(CONFIRMATIONS.c.run, CONFIRMATIONS.c.id, asked))
    )
    known: dict[str | None, dict[int, ConfirmationRow]] = {}
    for row in connection.execute(query).mappings():
        fields = dict(row)
        number = fields.pop("run")
        known.setdefault(row["id"], {})[number] = ConfirmationRow(**fields)
    return known


def pairs(first: Column[Any], second: Column[Any], wanted: Iterable[tuple[Any, Any]]) -> ColumnElement[bool]:
    """Choose rows by two columns; SQLite would read the whole table for `(first, second) IN (…)`."""
    grouped: dict[Any, list[Any]] = {}
    for one, other in wanted:
        grouped.setdefault(one, []).append(other)
    return or_(*(and_(first == one, second.in_(others)) for one, others in grouped.items()))


class Draft:
    """What is to be written; the last state of a run that was put in counts."""

    def __init__(self) -> None:
        self._runs: dict[int, RunRow] = {}
        self._frames: list[dict[str, Any]] = []
        self._confirmations: dict[tuple[int, str], dict[str, Any]] = {}
        self._audit: list[dict[str, Any]] = []

    def put(self, run: RunRow) -> None:
        """Set the state of a run."""
        self._runs[run.number] = run

    def append(
        self, run: RunRow, events: Sequence[RunEvent], changes: Mapping[str, Any]
    ) -> tuple[RunRow, tuple[StoredEvent, ...]]:
        """Add events to a run's log; returns it with `changes` and the number of its last event, which is put in."""
        lines = [event.model_dump_json(exclude_none=True) for event in events]
        first, last = run.seq + 1, run.seq + len(lines)
        self._frames.append({"run": run.number, "first_seq": first, "last_seq": last, "body": f"[{BREAK.join(lines)}]"})
        run = replace(run, seq=last, **changes)  # once: a row has forty fields to copy
        self.put(run)
        return run, tuple(StoredEvent(seq, line) for seq, line in enumerate(lines, first))

    def end(
        self, run: RunRow, status: RunStatus, at: datetime, *, error: str, reason: str
    ) -> tuple[RunRow, tuple[StoredEvent, ...]]:
        """End a run on the API's own account; whoever holds it is fenced."""
        end = RunEnd(status=status, error=error, reason=reason)
        changes = {"epoch": run.epoch + 1, **ending(end, at)}
        return self.append(run, [RunEvent(kind=EventKind.END, time=at, end=end)], changes)

    def ask(self, run: RunRow, confirmation: ConfirmationRow) -> None:
        """Keep a confirmation, in the place of an older one of that id."""
        fields = {column.name: getattr(confirmation, column.name) for column in CONFIRMATIONS.c if column.name != "run"}
        self._confirmations[run.number, confirmation.id] = {"run": run.number, **fields}

    def note(self, entry: RunAuditRow) -> None:
        """Note who did what."""
        self._audit.append({name: getattr(entry, name) for name in _AUDITED})

    def write(self, connection: Connection) -> None:
        """Write it all."""
        moved = [_values(run, _MOVING) for run in self._runs.values() if run.ended_at is None]
        done = [_values(run, (*_MOVING, *_ENDING)) for run in self._runs.values() if run.ended_at is not None]
        _MOVE.each(connection, moved)
        _END.each(connection, done)
        if self._confirmations:
            asked = pairs(CONFIRMATIONS.c.run, CONFIRMATIONS.c.id, self._confirmations)
            connection.execute(delete(CONFIRMATIONS).where(asked))
            _KEEP_CONFIRMATIONS.each(connection, list(self._confirmations.values()))
        _KEEP_FRAMES.each(connection, self._frames)
        _KEEP_AUDIT.each(connection, self._audit)


def ending(end: RunEnd, at: datetime) -> dict[str, Any]:
    """Return what the end of a run changes of it, besides its log."""
    return {
        "status": end.status,
        "owner": None,
        "lease_until": None,
        "stop_by": None,
        "ended_at": at,
        "content": end.content if end.status is RunStatus.COMPLETED or end.content else None,
        "data": end.data,
        "error": end.error or None,
        "reason": end.reason or ("" if end.status is RunStatus.COMPLETED else end.status.value),
        "usage": end.usage,
    }


def _values(run: RunRow, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(run, name, None) for name in names}
    values["at"] = run.number
    values["confirmation_id"] = run.confirmation.id if run.confirmation else None
    if "tokens" in values:
        used = run.usage.total_tokens if run.usage else 0
        values["tokens"] = max(0, min(used, 2**31 - 1))  # what the column holds, whatever an instance says
    return values
