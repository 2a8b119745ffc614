"""Recording what instances say of their runs: each event once, in order, and only by the run's present owner."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select

from management_api.store.claims import UNDER_WAY
from management_api.store.draft import BREAK, CANCELLED, Draft, Lock, ending, load_prepared, prepared
from management_api.store.rows import ConfirmationRow, Recorded, RunRow, StoredEvent
from management_api.store.schema import FRAMES, RUNS
from opmas.database.prepared import Prepared
from opmas.wire.messages import now
from opmas.wire.runs import ConfirmationRequest, EventKind, Frame, FrameReply, RunEnd, RunEvent, RunStatus

_LAST = (EventKind.END, EventKind.CONFIRMATION)
_BY_INSTANCES = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)

_other = RUNS.alias("other")
_FOLLOWED = Prepared(
    select(RUNS.c.number)
    .join(_other, and_(_other.c.workspace == RUNS.c.workspace, _other.c.session_id == RUNS.c.session_id))
    .where(
        RUNS.c.number.in_(bindparam("numbers", expanding=True)),
        _other.c.ended_at.is_(None),
        _other.c.status.in_(UNDER_WAY),
        _other.c.owner.is_(None),
    )
    .distinct()
)

_number = select(RUNS.c.number).where(RUNS.c.id == bindparam("run")).scalar_subquery()
_holds = select(func.max(FRAMES.c.first_seq)).where(FRAMES.c.run == _number, FRAMES.c.first_seq <= bindparam("next"))
_EVENTS = Prepared(
    select(FRAMES.c.first_seq, FRAMES.c.body)
    .where(FRAMES.c.run == _number, FRAMES.c.first_seq >= func.coalesce(_holds.scalar_subquery(), 0))
    .order_by(FRAMES.c.first_seq)
    .limit(bindparam("limit"))
)
_REPORTED = prepared(RUNS.c.id.in_(bindparam("ids", expanding=True)), lock=Lock.WAIT)


@dataclass(frozen=True, slots=True)
class Report:
    """A frame that came in."""

    agent_id: str
    run_id: str
    frame: Frame
    lease_s: float


def record(connection: Connection, items: Sequence[Report]) -> list[Recorded]:
    """Record each frame, or say why not."""
    draft, at = Draft(), now()
    runs = {run.id: run for run in load_prepared(connection, _REPORTED, ids=list({item.run_id for item in items}))}
    answers: list[Recorded] = []
    for item in items:
        run = runs.get(item.run_id)
        if run is None or run.agent_id != item.agent_id:
            answers.append(Recorded(FrameReply(fenced=True, reason="there is no such run")))
            continue
        runs[run.id], answer = _recorded(connection, draft, run, item, at)
        answers.append(answer)
    draft.write(connection)
    released = [one.run.number for one in answers if one.run is not None and one.run.owner is None]
    if not released or not (waited_for := followed(connection, released)):
        return answers
    return [replace(one, is_followed=one.run is not None and one.run.number in waited_for) for one in answers]


def followed(connection: Connection, released: list[int]) -> frozenset[int]:
    """Choose the runs whose session has one that waits for its turn: no word of work told of it since it came."""
    return frozenset(row["number"] for row in _FOLLOWED.rows(connection, {"numbers": released}))


def _recorded(connection: Connection, draft: Draft, run: RunRow, item: Report, at: datetime) -> tuple[RunRow, Recorded]:
    frame = item.frame
    last = frame.first_seq + len(frame.events) - 1
    if frame.epoch != run.epoch:
        return run, _fenced(run, "it was given to another instance" if run.epoch > frame.epoch else "no such epoch")
    holds = run.owner == frame.instance_id
    if not holds:
        if frame.events and last <= run.seq:  # sent again: the answer was lost
            return run, Recorded(FrameReply(seq=run.seq))
        return run, _fenced(run, f"it is {run.status.value} and not held by {frame.instance_id}")
    changes: dict[str, Any] = {"lease_until": at + timedelta(seconds=item.lease_s)}
    before = run.status
    added: tuple[StoredEvent, ...] = ()
    if frame.first_seq <= run.seq + 1 and last > run.seq:
        new = _upto_last(frame.events[run.seq + 1 - frame.first_seq :])
        run, added = _extended(draft, run, new, changes, at)
        if run.status is RunStatus.COMPLETED and not run.content:
            run = replace(run, content=_said(connection, run.number, new))
            draft.put(run)
    else:
        run = replace(run, **changes)
        draft.put(run)
    reply = FrameReply(seq=run.seq, cancel=run.cancel_requested)
    return run, Recorded(reply, added, run if run.status is not before else None)


def _fenced(run: RunRow, why: str) -> Recorded:
    return Recorded(FrameReply(seq=run.seq, fenced=True, reason=why))


def _upto_last(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Drop what follows the event that gives the run up, and call an end failed that is not an instance's to say."""
    kept: list[RunEvent] = []
    for event in events:
        if event.kind is EventKind.END:
            end = event.end or RunEnd(status=RunStatus.FAILED, error="the instance did not say how the run ended")
            if end.status not in _BY_INSTANCES:
                end = end.model_copy(update={"status": RunStatus.FAILED})
            event = event.model_copy(update={"end": end})  # noqa: PLW2901 - the event as it is kept
        kept.append(event)
        if event.kind in _LAST:
            break
    return kept


def _said(connection: Connection, run: int, new: Sequence[RunEvent]) -> str:
    """Put an answer together that was too long for the end of its run, of all chunks but those of lost attempts."""
    stored = select(FRAMES.c.body).where(FRAMES.c.run == run).order_by(FRAMES.c.first_seq)
    before = (event for row in connection.execute(stored) for event in json.loads(row.body))
    said: list[str] = []
    kept = 0  # of this, by who asked for a confirmation: whoever starts goes on after it
    for kind, content in chain(
        ((event["kind"], event.get("content", "")) for event in before), ((event.kind, event.content) for event in new)
    ):
        if kind == EventKind.STARTED:
            del said[kept:]
        elif kind == EventKind.CONFIRMATION:
            kept = len(said)
        elif kind == EventKind.CHUNK:
            said.append(content)
    return "".join(said)


def _extended(
    draft: Draft, run: RunRow, events: list[RunEvent], changes: dict[str, Any], at: datetime
) -> tuple[RunRow, tuple[StoredEvent, ...]]:
    if run.started_epoch < run.epoch and any(event.kind is not EventKind.END for event in events):
        changes |= {
            "status": RunStatus.RUNNING,
            "started_epoch": run.epoch,
            "started_at": run.started_at or at,
            "stop_by": at + timedelta(seconds=run.limits.wall_time_s),
        }
    last = events[-1]
    if last.kind is EventKind.END and last.end is not None:
        changes |= ending(last.end, at)
    elif last.kind is EventKind.CONFIRMATION and last.confirmation is not None:
        row = _confirmation(run, last.confirmation, at)
        draft.ask(run, row)
        changes |= {"status": RunStatus.WAITING_CONFIRMATION, "confirmation": row}
        changes |= {"owner": None, "lease_until": None, "stop_by": None}
    run, added = draft.append(run, events, changes)
    if run.cancel_requested and run.status is RunStatus.WAITING_CONFIRMATION:  # nobody is to be asked any more
        run, end = draft.end(run, RunStatus.CANCELLED, at, error=CANCELLED, reason="cancelled")
        added += end
    return run, added


def _confirmation(run: RunRow, asked: ConfirmationRequest, at: datetime) -> ConfirmationRow:
    patience = run.spec.confirm_within_s
    if asked.expires_in_s is not None:
        patience = max(0.0, min(patience, asked.expires_in_s))
    return ConfirmationRow(
        id=asked.id,
        run_id=run.id,
        message=asked.message,
        tool_name=asked.tool_name,
        arguments=asked.arguments,
        resume=asked.resume,
        state=asked.state,
        expires_at=at + timedelta(seconds=patience),
        requested_at=at,
    )


def events(connection: Connection, run_id: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
    """Read up to `limit` events that come after `after`."""
    expanded = (
        StoredEvent(seq, line)
        for row in _EVENTS.rows(connection, {"run": run_id, "next": after + 1, "limit": limit})
        for seq, line in enumerate(row["body"][1:-1].split(BREAK), row["first_seq"])
    )
    return tuple(event for event in expanded if event.seq > after)[:limit]
