"""Verbs about what happened: `events`, as it is or as it goes on (`-f`), and `audit`, who commanded what."""

import sys
from contextlib import aclosing
from typing import Annotated

from cyclopts import Parameter

from opmas.cli import home, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import Json


def events(
    agent: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    after: int | None = None,
    limit: int = 50,
    json: Json = False,
) -> None:
    """Show status changes and their causes.

    Args:
        agent: only this agent's
        follow: go on until interrupted; with --json, one document a line
        after: only those after this id; without it, the latest
        limit: at most so many, before following
        json: one JSON document, as the API answers it
    """
    found = _happened("events", agent, after, limit)
    if not follow:
        paper.document(found) if json else table(found["events"])
        return
    _show(found["events"], json=json)
    import asyncio  # noqa: PLC0415 - 25 ms, which only a follower pays

    asyncio.run(_follow(agent, found["next"], json=json))


def audit(agent: str | None = None, /, *, after: int | None = None, limit: int = 50, json: Json = False) -> None:
    """Show who commanded what, and how it was answered.

    Args:
        agent: only commands to this agent
        after: only those after this id; without it, the latest
        limit: at most so many
        json: one JSON document, as the API answers it
    """
    found = _happened("audit", agent, after, limit)
    if json:
        paper.document(found)
        return
    rows = [
        (
            row["id"],
            paper.when(row["time"]),
            row["publisher"],
            row["command"],
            row["agent_id"],
            row.get("error_code") or row["outcome"],
            ", ".join(f"{name}={paper.value(value)}" for name, value in row["params"].items()),
        )
        for row in found["audit"]
    ]
    paper.table(("ID", "TIME", "WHO", "COMMAND", "AGENT", "OUTCOME", "PARAMETERS"), rows, ("ID", "PARAMETERS"))


def _happened(what: str, agent: str | None, after: int | None, limit: int) -> Document:
    try:
        found = get(f"/api/v1/{what}", {"agent": agent, "after": after, "limit": limit})
        if agent is not None and not found[what]:
            get(agent_path(agent))  # an agent that is gone still has its history; one that never was is a mistake
    except Failure as failure:
        if agent is None or failure.exit is not Exit.NOT_FOUND:
            raise
        raise no_such_agent(f"show the {what} of", agent) from failure
    return found


def table(found: list[Document]) -> None:
    """Print events, the oldest first."""
    rows = [
        (event["id"], paper.when(event["time"]), _who(event), event["kind"], event.get("status"), cause(event["cause"]))
        for event in found
    ]
    paper.table(("ID", "TIME", "WHO", "EVENT", "STATUS", "CAUSE"), rows, ("ID",))


def _show(found: list[Document], *, json: bool) -> None:
    """Print events line by line: what is still to come has no widest column."""
    for event in found:
        if json:
            paper.compact(event)
            continue
        status, why = event.get("status") or "-", paper.plain(cause(event["cause"]))
        who = f"{_who(event):<20}"
        paper.line(f"{paper.when(event['time'])}  {who}  {event['kind']:<18}  {paper.status(f'{status:<8}')}  {why}")
    sys.stdout.flush()


def _who(event: Document) -> str:
    return str(event.get("instance_id") or event["agent_id"])


def cause(given: Document) -> str:
    """Tell a cause in a line."""
    parts = [given.get("command"), f"by {given['actor']}" if given.get("actor") else "", given.get("detail")]
    if given.get("exit_code") is not None:
        parts.append(f"exit code {given['exit_code']}")
    if given.get("signal"):
        parts.append(f"signal {given['signal']}")
    return ", ".join(part for part in parts if part)


async def _follow(agent: str | None, after: int, *, json: bool) -> None:
    from opmas.client import OpmasClient  # noqa: PLC0415 - costs 0.3 s, which only a follower pays
    from opmas.wire.errors import OpmasError  # noqa: PLC0415 - as above

    try:
        async with (
            OpmasClient(home.api_url(), home.token()) as client,
            aclosing(client.follow_events(agent, after=after)) as happening,
        ):
            async for event in happening:
                _show([event.model_dump(mode="json")], json=json)
    except OpmasError as error:
        raise Failure(error.message, error.hint, error.code) from error
