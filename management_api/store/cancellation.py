"""Cancelling runs: at once where nobody holds them, by asking the instance that does otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from management_api.store.draft import CANCELLED, Draft, Lock, load
from management_api.store.rows import Changed, RunAuditRow, RunRow
from management_api.store.schema import RUNS
from opmas.wire.errors import OpmasError, RunNotFound
from opmas.wire.messages import now
from opmas.wire.runs import RunStatus


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants a run to stop."""

    run_id: str
    actor: str


def cancel(connection: Connection, items: Sequence[Cancel]) -> list[Changed | OpmasError]:
    """Cancel each, or note that it is wanted; what has ended stays as it is."""
    draft, at = Draft(), now()
    runs = {run.id: run for run in load(connection, RUNS.c.id.in_([item.run_id for item in items]), lock=Lock.WAIT)}
    answers: list[Changed | OpmasError] = []
    for item in items:
        if (run := runs.get(item.run_id)) is None:
            answers.append(RunNotFound(f"cannot cancel run {item.run_id}: there is no such run"))
            continue
        answer = cancelled(draft, run, at)
        runs[run.id] = answer.run
        draft.note(_audit_of(answer, item.actor, at))
        answers.append(answer)
    draft.write(connection)
    return answers


def cancelled(draft: Draft, run: RunRow, at: datetime, reason: str = "cancelled") -> Changed:
    """Cancel one run in `draft`."""
    if run.status.is_terminal or run.cancel_requested:
        return Changed(run, changed=False)
    if run.owner is not None:
        run = replace(run, cancel_requested=True)
        draft.put(run)
        return Changed(run)
    error = {
        "cancelled": CANCELLED,
        "interrupted": "a later run of its session took its place",
    }[reason]
    return Changed(*draft.end(replace(run, cancel_requested=True), RunStatus.CANCELLED, at, error=error, reason=reason))


def _audit_of(answer: Changed, actor: str, at: datetime) -> RunAuditRow:
    run = answer.run
    return RunAuditRow(
        time=at,
        workspace=run.workspace,
        actor=actor,
        action="cancel",
        agent_id=run.agent_id,
        run_id=run.id,
        outcome=run.status.value if run.status.is_terminal else "requested",
    )
