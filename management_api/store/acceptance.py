"""Taking runs onto the record: once per idempotency key, into a session, and not beyond the queue's length.

All requests that wait are accepted together; each sees what those before it did.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy import bindparam as given

from management_api.store.cancellation import cancelled
from management_api.store.claims import UNDER_WAY
from management_api.store.draft import Draft, Lock, load, pairs
from management_api.store.rows import Accepted, NewRun, RunAuditRow, RunRow
from management_api.store.schema import RUNS, SESSIONS
from opmas.database.prepared import Prepared
from opmas.wire.errors import IdempotencyConflict, OpmasError, QueueFull, SessionBusy
from opmas.wire.runs import RunStatus, SessionRuns

SAME_WITHIN = timedelta(seconds=60)
"""For so long a request with the same correlation id and content is the same request, sent again."""

_TITLE = 80  # characters of the first message
_SESSION_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,200}")
_LOCK = text(
    "SELECT pg_advisory_xact_lock(7216, hash) FROM"
    " (SELECT DISTINCT hashtext(id) AS hash FROM unnest(CAST(:ids AS text[])) AS id ORDER BY hash) AS hashes"
)
_TOUCH = Prepared(
    update(SESSIONS)
    .where(SESSIONS.c.workspace == given("of"), SESSIONS.c.id == given("named"))
    .values(updated_at=given("at"))
)
_BEGIN, _ENTER = Prepared(insert(SESSIONS)), Prepared(insert(RUNS))
# Of every workspace with every id, since no more than one has most ids.
_SESSIONS = Prepared(
    select(SESSIONS.c.workspace, SESSIONS.c.id, SESSIONS.c.agent_id, SESSIONS.c.user_id)
    .where(
        SESSIONS.c.workspace.in_(given("workspaces", expanding=True)), SESSIONS.c.id.in_(given("ids", expanding=True))
    )
    .order_by(SESSIONS.c.workspace, SESSIONS.c.id)
    .with_for_update()
)
_WAITING = Prepared(
    select(RUNS.c.agent_id, func.count().label("runs"))
    .where(
        RUNS.c.agent_id.in_(given("agents", expanding=True)),
        RUNS.c.ended_at.is_(None),
        RUNS.c.status == RunStatus.PENDING,
        RUNS.c.owner.is_(None),
    )
    .group_by(RUNS.c.agent_id)
)
_SHARED = ({one.name for one in fields(NewRun)} & {one.name for one in fields(RunRow)}) - {"session_id"}


def accept(connection: Connection, items: Sequence[NewRun]) -> list[Accepted | OpmasError]:
    """Accept each, or answer with the run that an earlier request made, or with the error that refuses it."""
    desk = _Desk(connection, items)
    answers = [desk.accept(new) for new in items]
    desk.write()
    return answers


@dataclass(frozen=True, slots=True)
class _Known:
    run: RunRow
    request_hash: str


@dataclass
class _Desk:
    connection: Connection
    items: Sequence[NewRun]
    draft: Draft = field(default_factory=Draft)
    runs: list[dict[str, Any]] = field(default_factory=list)
    begun: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    touched: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_key = self._by_key()
        self.by_correlation = self._by_correlation()
        self.sessions = self._sessions()
        self.waiting = self._waiting()

    # --- what is on record ------------------------------------------------------------------------------------------

    def _by_key(self) -> dict[tuple[str, str], _Known]:
        keys = [(new.workspace, new.idempotency_key) for new in self.items if new.idempotency_key is not None]
        if not keys:
            return {}
        known = self._known(pairs(RUNS.c.workspace, RUNS.c.idempotency_key, keys))
        return {(one.run.workspace, key): one for one, key, _ in known if key is not None}

    def _by_correlation(self) -> dict[tuple[str, ...], _Known]:
        ids = {new.correlation_id for new in self.items if _repeats(new)}
        if not ids:
            return {}
        if self.connection.dialect.name == "postgresql":  # no index keeps two servers from accepting the same at once
            self.connection.execute(_LOCK, {"ids": sorted(ids)})
        oldest = min(new.created_at for new in self.items) - SAME_WITHIN
        known = self._known(
            RUNS.c.correlation_id.in_(ids),
            RUNS.c.request_hash.in_({new.request_hash for new in self.items}),  # a thousand others may share the id
            RUNS.c.ended_at.is_(None),
            RUNS.c.created_at >= oldest,
        )
        return {_correlation(one.run, one.request_hash): one for one, _, _ in known}

    def _known(self, *chosen: Any) -> list[tuple[_Known, str | None, int]]:
        asked = select(RUNS.c.number, RUNS.c.request_hash, RUNS.c.idempotency_key).where(*chosen)
        marks = {row.number: row for row in self.connection.execute(asked)}
        if not marks:
            return []
        runs = load(self.connection, RUNS.c.number.in_(marks))
        return [
            (_Known(run, marks[run.number].request_hash), marks[run.number].idempotency_key, run.number) for run in runs
        ]

    def _sessions(self) -> dict[tuple[str, str], tuple[str, str]]:
        named = {(new.workspace, new.session_id) for new in self.items if is_session_id(new.session_id)}
        if not named:
            return {}
        asked = {"workspaces": list({one for one, _ in named}), "ids": list({one for _, one in named})}
        found = _SESSIONS.rows(self.connection, asked)
        return {(row["workspace"], row["id"]): (row["agent_id"], row["user_id"]) for row in found}

    def _waiting(self) -> dict[str, int]:
        agents = list({new.agent_id for new in self.items})
        return {row["agent_id"]: row["runs"] for row in _WAITING.rows(self.connection, {"agents": agents})}

    # --- one request ------------------------------------------------------------------------------------------------

    def accept(self, new: NewRun) -> Accepted | OpmasError:
        earlier = self._earlier(new)
        if earlier is not None:
            return earlier
        if self.waiting.get(new.agent_id, 0) >= new.spec.queue:
            return QueueFull(
                f"cannot accept a run of {new.agent_id}: {new.spec.queue} runs wait for it already",
                "try again in a while, or give the agent more replicas or a longer `queue`",
            )
        session_id, joins = self._session(new)
        interrupted: tuple[RunRow, ...] = ()
        if joins and new.spec.session_runs is not SessionRuns.ENQUEUE:
            busy = self._under_way(new.workspace, session_id)
            if busy and new.spec.session_runs is SessionRuns.REJECT:
                return SessionBusy(
                    f"cannot accept the run: session {session_id} has another one under way",
                    "wait for it to end, or cancel it",
                )
            interrupted = tuple(cancelled(self.draft, run, new.created_at, "interrupted").run for run in busy)
        return self._enter(new, session_id, joins, interrupted)

    def _earlier(self, new: NewRun) -> Accepted | OpmasError | None:
        if new.idempotency_key is None:
            known = self.by_correlation.get(_correlation(new, new.request_hash)) if _repeats(new) else None
            recent = known is not None and known.run.created_at >= new.created_at - SAME_WITHIN
            return Accepted(known.run, created=False) if known is not None and recent else None
        known = self.by_key.get((new.workspace, new.idempotency_key))
        if known is None:
            return None
        if known.request_hash == new.request_hash:
            return Accepted(known.run, created=False)
        return IdempotencyConflict(
            "cannot accept the run: its idempotency key was used for another request",
            "make a new key for each request, and send the same one only with the same request",
        )

    def _session(self, new: NewRun) -> tuple[str, bool]:
        """Find the session to join, or name the one to begin."""
        if new.session_id is not None and is_session_id(new.session_id):
            owner = self.sessions.get((new.workspace, new.session_id))
            if owner is None:
                return new.session_id, False
            if owner == (new.agent_id, new.user_id):
                return new.session_id, True
        return uuid4().hex, False

    def _under_way(self, workspace: str, session_id: str) -> list[RunRow]:
        self.write()  # runs of this very transaction count
        of_session = (RUNS.c.workspace == workspace, RUNS.c.session_id == session_id)
        return load(
            self.connection, *of_session, RUNS.c.ended_at.is_(None), RUNS.c.status.in_(UNDER_WAY), lock=Lock.WAIT
        )

    def _enter(self, new: NewRun, session_id: str, joins: bool, interrupted: tuple[RunRow, ...]) -> Accepted:
        at, key = new.created_at, (new.workspace, session_id)
        run = RunRow(
            **{name: getattr(new, name) for name in _SHARED},
            id=new.run_id,
            session_id=session_id,
            status=RunStatus.PENDING,
            start_by=at + timedelta(seconds=new.spec.start_within_s),
            continues=joins,
        )
        if joins:
            self.touched[key] = {"of": new.workspace, "named": session_id, "at": at}
        else:
            self.sessions[key] = (new.agent_id, new.user_id)
            self.begun[key] = _session_values(run)
        self.runs.append(_run_values(run, new))
        self.draft.note(_audit_of(run, new))
        self.waiting[new.agent_id] = self.waiting.get(new.agent_id, 0) + 1
        known = _Known(run, new.request_hash)
        if new.idempotency_key is not None:
            self.by_key[new.workspace, new.idempotency_key] = known
        elif _repeats(new):
            self.by_correlation[_correlation(run, new.request_hash)] = known
        return Accepted(run, created=True, interrupted=interrupted)

    def write(self) -> None:
        """Write what is new; sessions first and sorted, so that two servers lock them in one order."""
        _BEGIN.each(self.connection, [values for _, values in sorted(self.begun.items())])
        _TOUCH.each(self.connection, list(self.touched.values()))
        _ENTER.each(self.connection, self.runs)
        self.draft.write(self.connection)
        self.draft, self.runs, self.begun, self.touched = Draft(), [], {}, {}


def is_session_id(name: str | None) -> bool:
    """Say whether a caller may name a session so."""
    return name is not None and _SESSION_ID.fullmatch(name) is not None


def _repeats(new: NewRun) -> bool:
    return new.idempotency_key is None and new.repeats and bool(new.correlation_id)


def _correlation(run: RunRow | NewRun, request_hash: str) -> tuple[str, ...]:
    return run.workspace, run.agent_id, run.correlation_id, request_hash


def _session_values(run: RunRow) -> dict[str, Any]:
    line = " ".join(run.message[: 4 * _TITLE].split())
    return {
        "workspace": run.workspace,
        "id": run.session_id,
        "agent_id": run.agent_id,
        "user_id": run.user_id,
        "title": line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…",
        "created_at": run.created_at,
        "updated_at": run.created_at,
    }


_AS_THEY_ARE = tuple(name for name in RUNS.c.keys() if name in {one.name for one in fields(RunRow)} - {"number"})  # noqa: SIM118 - not a dict


def _run_values(run: RunRow, new: NewRun) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in _AS_THEY_ARE}
    return values | {"request_hash": new.request_hash, "idempotency_key": new.idempotency_key, "tokens": 0}


def _audit_of(run: RunRow, new: NewRun) -> RunAuditRow:
    return RunAuditRow(
        time=run.created_at,
        workspace=run.workspace,
        actor=new.actor,
        action="run",
        agent_id=run.agent_id,
        run_id=run.id,
        outcome="accepted",
    )
