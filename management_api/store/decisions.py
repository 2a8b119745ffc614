"""What humans say to confirmations: once each, and only while their run waits."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection

from management_api.store.claims import fits
from management_api.store.draft import Draft, Lock, load
from management_api.store.rows import Changed, ConfirmationRow, RunAuditRow, RunRow
from management_api.store.schema import RUNS
from opmas.wire.errors import ConfirmationDecided, OpmasError, RunNotFound, TooLarge
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A yes or no; `arguments` replace those that were asked about."""

    run_id: str
    confirmation_id: str
    confirmed: bool
    note: str
    arguments: dict[str, JsonValue] | None
    actor: str


def decide(connection: Connection, verdict: Verdict) -> Changed | OpmasError:
    """Put the decision on record and the run back to be claimed: its handler for it is called either way."""
    found = load(connection, RUNS.c.id == verdict.run_id, lock=Lock.WAIT)
    asked = found[0].confirmation if found else None
    if asked is None or asked.id != verdict.confirmation_id:
        return RunNotFound(f"cannot decide: run {verdict.run_id} has no confirmation {verdict.confirmation_id}")
    run, at, draft = found[0], now(), Draft()
    if (refusal := _refusal(run, asked, at)) is not None:
        return ConfirmationDecided(f"cannot decide: {refusal}", "read the run again to see what became of it")
    decided = replace(
        asked,
        confirmed=verdict.confirmed,
        note=verdict.note,
        decided_arguments=verdict.arguments,
        decided_by=verdict.actor,
        decided_at=at,
    )
    start_by = at + timedelta(seconds=run.spec.start_within_s)
    run = replace(run, status=RunStatus.RUNNING, confirmation=decided, start_by=start_by)
    if verdict.arguments is not None and not fits(run):
        return TooLarge("cannot decide: no instance could be given that many arguments", "send shorter ones")
    draft.put(run)
    draft.ask(run, decided)
    draft.note(_audit_of(run, verdict, at))
    draft.write(connection)
    return Changed(run)


def _refusal(run: RunRow, asked: ConfirmationRow, at: datetime) -> str | None:
    if asked.confirmed is not None:
        return f"it was {'confirmed' if asked.confirmed else 'rejected'} already"
    expired = run.status is RunStatus.EXPIRED or asked.expires_at <= at
    if expired and run.status in (RunStatus.EXPIRED, RunStatus.WAITING_CONFIRMATION):
        return "the confirmation has expired, nobody decided it in time"
    if run.status is not RunStatus.WAITING_CONFIRMATION:
        return f"the run is {run.status.value} and does not wait any more"
    return None


def _audit_of(run: RunRow, verdict: Verdict, at: datetime) -> RunAuditRow:
    fields: dict[str, Any] = {"action": "confirm" if verdict.confirmed else "reject", "outcome": "accepted"}
    return RunAuditRow(
        time=at, workspace=run.workspace, actor=verdict.actor, agent_id=run.agent_id, run_id=run.id, **fields
    )
