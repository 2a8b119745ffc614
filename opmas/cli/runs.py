"""Verbs about runs: `runs ls`, `show`, `cancel`, `confirm`."""

import json as encoding
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from opmas.cli import connection, paper
from opmas.cli.connection import Document, agent_path, get
from opmas.cli.decision import waiting, waits_for
from opmas.cli.failure import Exit, Failure
from opmas.cli.logs import moment
from opmas.cli.lookup import looked_up
from opmas.cli.selection import Json

HEAD = ("RUN", "AGENT", "STATUS", "CREATED", "TOOK", "TOKENS", "USER", "SESSION", "MESSAGE")
# A message in a list is a reminder.
_SHOWN = 60


def ls_runs(
    *,
    agent: str | None = None,
    session: str | None = None,
    status: str | None = None,
    user: str | None = None,
    since: str | None = None,
    limit: int = 20,
    json: Json = False,
) -> None:
    """List runs, the newest first.

    Args:
        agent: only runs of this agent
        session: only runs of this session
        status: only runs of this status: pending, running, waiting_confirmation, completed, failed, cancelled, …
        user: only runs for this user
        since: only runs younger than this (5m, 2h) or after this time (2026-01-31T12:00)
        limit: at most so many
        json: one JSON document, as the API answers it
    """
    only = {"agent": agent, "session": session, "status": status, "user": user, "limit": limit}
    found = get("/api/v1/runs", only | {"since": moment(since) if since else None})
    if json:
        paper.document(found)
        return
    paper.table(HEAD, [_row(run) for run in found["runs"]], ("SESSION", "USER", "TOKENS", "TOOK", "CREATED"))
    if not found["runs"]:
        chosen = any((agent, session, status, user, since))
        paper.note("no such runs" if chosen else 'no runs: `opmas run AGENT "Hello!"` asks an agent')
    elif found["total"] > len(found["runs"]):
        paper.note(f"{len(found['runs'])} of {found['total']}; --limit shows more")


def _row(run: Document) -> tuple[object, ...]:
    began, ended = run.get("startedAt"), run.get("completedAt")
    took_s = (paper.moment(ended) - paper.moment(began)).total_seconds() if began and ended else None
    took = f"{took_s:.1f}s" if took_s is not None and took_s < 10 else paper.duration(took_s)
    created, message = paper.when(run["createdAt"]), run["message"][:_SHOWN]
    ids = run.get("userId"), run.get("sessionId")
    return run["runId"], run["agentId"], run["detail"], created, took, run.get("tokensUsed"), *ids, message


def show_run(run: str, /, *, json: Json = False) -> None:
    """Show a run: its status, times and tokens, its answer or error, and what it waits for.

    Args:
        run: the run's id, or the beginning of it
        json: one JSON document, as the API answers it
    """
    found = _found("show", run)
    if json:
        paper.document(found)
        return
    meta, data = found.get("metadata") or {}, found.get("data")
    waits = waits_for(data)
    reason = (data or {}).get("reason") if found["status"] == "failed" else None
    facts: Document = {
        "run": found["runId"],
        "agent": found["agentId"],
        "session": found.get("sessionId"),
        "status": "waits for a human" if waits else paper.status(reason or found["status"]),
        "started": paper.when(meta.get("startedAt")),
        "completed": paper.when(meta.get("completedAt")),
        "took": f"{meta['durationMs'] / 1000:.1f} s" if meta.get("durationMs") is not None else None,
        "model": meta.get("model"),
        "tokens": meta.get("tokensUsed"),
        "correlation": meta.get("correlationId"),
        "error": found.get("error"),
    }
    for name, fact in facts.items():
        if fact not in {None, "", "-"}:
            paper.line(f"{name:<13}{fact if name == 'status' else paper.plain(fact)}")
    for said in found.get("messages") or ():
        paper.line(f"\n{said['role']}:\n{paper.prose(said['content'])}")
    if waits:
        paper.line(f"\n{waiting(found['runId'], waits)}")
    elif data and found["status"] == "completed":
        paper.line()
        paper.document(data)


def cancel_runs(*runs: str, json: Json = False) -> None:
    """Cancel runs.

    Args:
        runs: their ids, or the beginnings of them
        json: one JSON document: {runs: [run, …]}
    """
    if not runs:
        raise Failure("cannot cancel: no run is named", "`opmas runs ls` lists them", "usage")
    ended = [_sent("cancel", _found("cancel", run), "/cancel") for run in runs]
    if json:
        paper.document({"runs": ended})
        return
    for run in ended:
        state = (run.get("data") or {}).get("reason") or run["status"]
        paper.line(f"{run['runId']}: {'is told to end' if state == 'running' else paper.status(state)}")


def confirm_run(
    run: str,
    /,
    *,
    no: Annotated[bool, Parameter(negative=())] = False,
    note: str = "",
    arguments: str | None = None,
    json: Json = False,
) -> int:
    """Decide what a run waits for: yes, or with --no no; the run then goes on.

    Args:
        run: the run's id, or the beginning of it
        no: reject it
        note: why; the agent is told
        arguments: a JSON object instead of the arguments that were asked about
        json: one JSON document, as the API answers it
    """
    found = _found("confirm", run)
    confirmation = (found.get("data") or {}).get("confirmationId") if waits_for(found.get("data")) else None
    if not confirmation:
        state = (found.get("data") or {}).get("reason") or found["status"]
        raise Failure(
            f"cannot confirm run {run}: it does not wait for anybody (it is {state})",
            "`opmas runs ls --status waiting_confirmation` lists those that do",
            "confirmation_decided",
        )
    body: Document = {"confirmed": not no, "note": note}
    body |= {"arguments": _object(arguments)} if arguments is not None else {}
    decided = _sent("confirm", found, f"/confirmations/{confirmation}", body)
    if json:
        paper.document(decided)
    else:
        paper.line(f"{found['runId']}: {'rejected' if no else 'confirmed'}, {paper.status(decided['status'])}")
        paper.note(f"`opmas runs show {found['runId']}` shows how it goes on")
    return Exit.OK


def _object(text: str) -> Document:
    try:
        given = encoding.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Failure(
            "cannot confirm: --arguments is no JSON object", """write --arguments '{"key": "value"}'""", "usage"
        )
    return given


def _sent(act: str, run: Document, part: str, body: Document | None = None) -> Document:
    return connection.send("POST", agent_path(run["agentId"], f"/runs/{run['runId']}{part}"), body)


def _found(act: str, run: str) -> Document:
    """Fetch a run by its id alone, or the beginning of it. Raises `Failure`, with the nearest id."""
    return looked_up(act, "run", run, lambda one: get(f"/api/v1/runs/{quote(one, safe='')}"), _latest)


def _latest() -> list[str]:
    return [found["runId"] for found in get("/api/v1/runs", {"limit": 200})["runs"]]
