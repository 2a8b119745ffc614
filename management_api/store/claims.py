"""Giving runs to instances that ask, in order, each with all that its handler needs.

A run can be claimed if nobody owns it and its session allows: no other run of the session is owned, and none that came
before is under way. One that waits for a human holds nobody up.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, func, not_, or_, select, update

from management_api.store.draft import Draft, Lock, load_prepared, prepared
from management_api.store.rows import RunRow
from management_api.store.schema import RUNS
from opmas.database.prepared import Prepared
from opmas.wire.messages import now
from opmas.wire.runs import Assignment, Claimed, Decision, Resumption, RunInput, RunStatus, Turn

MAX_ANSWER = 600_000
"""Bytes of one answer: what NATS carries is 1 MiB; the rest stays to be claimed. One run is given whatever its size."""

_MAX_ASSIGNMENT = 1_000_000
"""Bytes of one run with all that it takes: what an instance cannot be given in one message, it is never given."""

_TOO_LARGE = (
    f"cannot give an instance {{}} bytes, with what the run kept when it asked a human: the limit is {_MAX_ASSIGNMENT}"
)
_MAX_TURNS, _MAX_HISTORY = 50, 200_000  # bytes
UNDER_WAY = (RunStatus.PENDING, RunStatus.RUNNING)
_LOCKS = 7_215  # a class of PostgreSQL's advisory locks that is ours

_other = RUNS.alias("other")
_HELD_UP = exists().where(
    _other.c.workspace == RUNS.c.workspace,
    _other.c.session_id == RUNS.c.session_id,
    _other.c.ended_at.is_(None),
    _other.c.status.in_(UNDER_WAY),
    _other.c.number != RUNS.c.number,
    or_(_other.c.owner.is_not(None), _other.c.number < RUNS.c.number),
)
CLAIMABLE: ColumnElement[bool] = and_(
    RUNS.c.ended_at.is_(None), RUNS.c.status.in_(UNDER_WAY), RUNS.c.owner.is_(None), not_(_HELD_UP)
)
_SAID = Prepared(
    select(RUNS.c.message, RUNS.c.created_at, RUNS.c.content, RUNS.c.ended_at)
    .where(
        RUNS.c.workspace == bindparam("of"),
        RUNS.c.session_id == bindparam("session"),
        RUNS.c.number < bindparam("before"),
        RUNS.c.status == RunStatus.COMPLETED,
    )
    .order_by(RUNS.c.number.desc())
    .limit(_MAX_TURNS // 2)
)
_READY = prepared(RUNS.c.agent_id == bindparam("agent"), CLAIMABLE, lock=Lock.SKIP)


@dataclass(frozen=True, slots=True)
class Claimant:
    """An instance with room."""

    agent_id: str
    instance_id: str
    start_count: int
    room: int
    lease_s: float
    unheard: bool = False


def claim(connection: Connection, items: Sequence[Claimant]) -> list[Claimed]:
    """Give each what it has room for, the oldest runs first."""
    draft, at = Draft(), now()
    room: dict[str, int] = {}
    for item in items:
        room[item.agent_id] = room.get(item.agent_id, 0) + item.room
    if connection.dialect.name == "postgresql":  # two servers must not both give out runs of one session
        for agent_id in sorted(room):
            connection.execute(select(func.pg_advisory_xact_lock(_LOCKS, func.hashtext(agent_id))))
    for item in items:
        if item.unheard:
            _take_back(connection, item)
    ready = {
        agent_id: iter(load_prepared(connection, _READY, wanted, agent=agent_id)) for agent_id, wanted in room.items()
    }
    answers = [_given(connection, draft, item, ready[item.agent_id], at) for item in items]
    draft.write(connection)
    return answers


def _take_back(connection: Connection, item: Claimant) -> None:
    """Free what an instance was given and may not know of; what it does know of and has not begun, it begins anew."""
    connection.execute(
        update(RUNS)
        .where(
            RUNS.c.agent_id == item.agent_id,
            RUNS.c.owner == item.instance_id,
            RUNS.c.owner_start == item.start_count,
            RUNS.c.ended_at.is_(None),
            RUNS.c.started_epoch < RUNS.c.epoch,
            RUNS.c.cancel_requested.is_(False),  # with its lease it ends
        )
        .values(owner=None, lease_until=None)
    )


def _given(connection: Connection, draft: Draft, item: Claimant, ready: Iterator[RunRow], at: datetime) -> Claimed:
    given: list[Assignment] = []
    size, more = 0, False
    while len(given) < item.room and (run := next(ready, None)) is not None:
        claimed = replace(
            run,
            owner=item.instance_id,
            owner_start=item.start_count,
            epoch=run.epoch + 1,
            lease_until=at + timedelta(seconds=item.lease_s),
        )
        turns = history(connection, claimed) if claimed.continues else ()
        assignment, needed = _fitting(claimed, item.lease_s, turns)
        if assignment is None:  # or it would stand in the way of all that come after it, for ever
            draft.end(run, RunStatus.FAILED, at, error=_TOO_LARGE.format(needed), reason="too_large")
            more = True
            continue
        size += needed
        if given and size > MAX_ANSWER:
            more = True
            break
        draft.put(claimed)
        given.append(assignment)
    return Claimed(assignments=tuple(given), more=more)


def fits(run: RunRow) -> bool:
    """Say whether an instance can be given the run as it is now."""
    return _fitting(run, 0.0, ())[0] is not None


def _fitting(run: RunRow, lease_s: float, turns: tuple[Turn, ...]) -> tuple[Assignment | None, int]:
    """Make the assignment, without what was said before if that is too much; None if it is too much even so."""
    assignment = _assignment(run, lease_s, turns)
    size = len(assignment.encode())
    if size <= _MAX_ASSIGNMENT:
        return assignment, size
    return _fitting(run, lease_s, ()) if turns else (None, size)


def _assignment(run: RunRow, lease_s: float, turns: tuple[Turn, ...]) -> Assignment:
    return Assignment(
        run_id=run.id,
        epoch=run.epoch,
        next_seq=run.seq + 1,
        lease_s=lease_s,
        attempt=run.attempt + 1,
        input=RunInput(
            message=run.message,
            params=dict(run.params),
            files=run.files,
            metadata=dict(run.metadata),
            workspace_id=run.workspace,
            user_id=run.user_id,
            session_id=run.session_id,
            correlation_id=run.correlation_id,
        ),
        history=turns,
        limits=run.limits,
        resume=_resumption(run),
    )


def _resumption(run: RunRow) -> Resumption | None:
    asked = run.confirmation
    if asked is None or asked.confirmed is None:
        return None
    arguments = asked.arguments if asked.decided_arguments is None else asked.decided_arguments
    decision = Decision(
        confirmation_id=asked.id,
        confirmed=asked.confirmed,
        note=asked.note,
        arguments=dict(arguments),
        decided_by=asked.decided_by,
    )
    return Resumption(name=asked.resume, state=asked.state, decision=decision)


def history(connection: Connection, run: RunRow) -> tuple[Turn, ...]:
    """Read what was said in the session before `run`, oldest first: the newest part of it when there is much."""
    asked = {"of": run.workspace, "session": run.session_id, "before": run.number}
    turns: list[Turn] = []
    size = 0
    for row in _SAID.rows(connection, asked):
        pair = (
            Turn(role="assistant", content=row["content"] or "", time=row["ended_at"]),
            Turn(role="user", content=row["message"], time=row["created_at"]),
        )
        size += sum(len(json.dumps(turn.content)) for turn in pair)
        if size > _MAX_HISTORY:
            break
        turns += pair
    return tuple(reversed(turns))
