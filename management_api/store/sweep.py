"""Runs that no message will end: lost by their instances, too late to start, undecided, over their time.

Whether silence proves anything is the caller's to say (`verdicts`): after an outage of its own it proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, exists, false, or_, select

from management_api.store.claims import CLAIMABLE, UNDER_WAY
from management_api.store.draft import Draft, Lock, load
from management_api.store.rows import Changed, RunRow
from management_api.store.schema import CONFIRMATIONS, RUNS
from opmas.wire.runs import OnLost, RunStatus

ATTEMPTS = 3
"""So often in all the handler of a run may be called that is retried when lost."""

_OPEN = RUNS.c.ended_at.is_(None)
_UNHELD = and_(_OPEN, RUNS.c.owner.is_(None))


@dataclass(frozen=True, slots=True)
class Look:
    """When, whether leases and time limits are judged, and how long after its limit a run is ended from here."""

    at: datetime
    verdicts: bool
    grace_s: float


def has_open(connection: Connection, agent_id: str) -> bool:
    """Say whether an agent has any run that has not ended; reading disturbs no writer."""
    query = select(RUNS.c.number).where(_OPEN, RUNS.c.agent_id == agent_id).limit(1)
    return connection.execute(query).first() is not None


def due(connection: Connection, look: Look) -> list[int]:
    """List up to 500 runs to settle, by number; reading disturbs no writer."""
    return list(connection.execute(select(RUNS.c.number).where(_OPEN, _due(look)).limit(500)).scalars())


def settle(connection: Connection, look: Look, numbers: Sequence[int]) -> tuple[Changed, ...]:
    """Settle those of the runs that are due still; by number, since SQLite would look for them among all that ended."""
    draft, chosen = Draft(), (RUNS.c.number.in_(numbers), _OPEN, _due(look))
    changed = tuple(_settled(draft, run, look) for run in load(connection, *chosen, lock=Lock.SKIP))
    draft.write(connection)
    return changed


def settle_older(
    connection: Connection, agent_id: str, instance_id: str, start_count: int, at: datetime
) -> tuple[Changed, ...]:
    """Take its runs from a process of a slot that has since been started anew."""
    draft = Draft()
    older = and_(RUNS.c.owner == instance_id, RUNS.c.owner_start > 0, RUNS.c.owner_start < start_count)
    changed = tuple(
        _lost(draft, run, at) for run in load(connection, _OPEN, RUNS.c.agent_id == agent_id, older, lock=Lock.WAIT)
    )
    draft.write(connection)
    return changed


def fail_unheld(connection: Connection, agent_id: str, error: str, reason: str, at: datetime) -> tuple[Changed, ...]:
    """Fail what nobody will ever claim."""
    draft = Draft()
    runs = load(connection, _UNHELD, RUNS.c.agent_id == agent_id, lock=Lock.WAIT)
    changed = tuple(Changed(*draft.end(run, RunStatus.FAILED, at, error=error, reason=reason)) for run in runs)
    draft.write(connection)
    return changed


def agents_with_work(connection: Connection) -> frozenset[str]:
    """List the agents that have runs to claim."""
    return frozenset(connection.execute(select(RUNS.c.agent_id).where(CLAIMABLE).distinct()).scalars())


def agents_with_unheld(connection: Connection) -> frozenset[str]:
    """List the agents that have runs which no instance holds."""
    return frozenset(connection.execute(select(RUNS.c.agent_id).where(_UNHELD).distinct()).scalars())


def _due(look: Look) -> ColumnElement[bool]:
    held = RUNS.c.owner.is_not(None)
    undecided = exists().where(
        CONFIRMATIONS.c.run == RUNS.c.number,
        CONFIRMATIONS.c.id == RUNS.c.confirmation_id,
        CONFIRMATIONS.c.expires_at <= look.at,
    )
    judged = or_(
        and_(held, RUNS.c.lease_until <= look.at),
        and_(held, RUNS.c.stop_by <= look.at - timedelta(seconds=look.grace_s)),
    )
    return or_(
        and_(RUNS.c.status.in_(UNDER_WAY), RUNS.c.owner.is_(None), RUNS.c.start_by <= look.at),
        and_(RUNS.c.status == RunStatus.WAITING_CONFIRMATION, undecided),
        judged if look.verdicts else false(),
    )


def _settled(draft: Draft, run: RunRow, look: Look) -> Changed:
    if run.status is RunStatus.WAITING_CONFIRMATION:
        error = "nobody confirmed or rejected it in time"
        return Changed(*draft.end(run, RunStatus.EXPIRED, look.at, error=error, reason="confirmation_expired"))
    if run.owner is None:
        error = f"no instance took it within {run.spec.start_within_s:g} s"
        return Changed(*draft.end(run, RunStatus.EXPIRED, look.at, error=error, reason="expired"))
    if run.lease_until is not None and run.lease_until <= look.at:
        return _lost(draft, run, look.at)
    error = f"it ran longer than its limit of {run.limits.wall_time_s:g} s"
    ended = draft.end(run, RunStatus.FAILED, look.at, error=error, reason="time_limit")
    return Changed(*ended, dropped=run.owner)


def _lost(draft: Draft, run: RunRow, at: datetime) -> Changed:
    """Decide what becomes of a run whose instance is gone; should it live after all, it is fenced."""
    if run.cancel_requested:
        error = "it was cancelled; its instance was lost before it had stopped"
        return Changed(*draft.end(run, RunStatus.CANCELLED, at, error=error, reason="cancelled"), dropped=run.owner)
    called = run.started_epoch == run.epoch
    if called and run.spec.on_lost is OnLost.NEVER_STARTED:
        error = f"its instance {run.owner} was lost while it ran; what it did until then is not undone"
        return Changed(*draft.end(run, RunStatus.INTERRUPTED, at, error=error, reason="interrupted"), dropped=run.owner)
    if called and run.attempt + 1 >= ATTEMPTS:
        error = f"its instance was lost {ATTEMPTS} times while it ran"
        return Changed(*draft.end(run, RunStatus.FAILED, at, error=error, reason="poison"), dropped=run.owner)
    freed = replace(run, owner=None, lease_until=None, stop_by=None, epoch=run.epoch + 1)
    if called:
        start_by = at + timedelta(seconds=run.spec.start_within_s)
        freed = replace(freed, attempt=run.attempt + 1, start_by=start_by)
    draft.put(freed)
    return Changed(freed, dropped=run.owner)
