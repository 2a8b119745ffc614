"""The verb `logs`: lines of many agents in the order of time, each behind its instance's name; `-f` goes on."""

import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import Labels, chosen, labelled

# Often enough to read along, seldom enough to cost nothing.
_LOOK_S = 0.5
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def logs(
    *agents: str,
    label: Labels = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    tail: Annotated[int, Parameter(name=["--tail", "-n"])] = 100,
    since: str | None = None,
    grep: str | None = None,
    stream: Literal["stdout", "stderr"] | None = None,
    instance: str | None = None,
    json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show what agents print.

    Args:
        agents: their ids; without any, all agents
        label: only of agents with this label, key=value; several: with all of them
        follow: go on until interrupted
        tail: begin with so many lines of each
        since: only lines younger than this (5m, 2h) or after this time (2026-01-31T12:00)
        grep: only lines that contain this
        stream: only what went to stdout or stderr
        instance: only this instance's lines
        json: one JSON document: {lines: [{agent_id, time, stream, instance, line}, …], next: {agent: cursor}}
    """
    if follow and json:
        raise Failure("cannot follow into one JSON document", "leave out --follow or --json", "usage")
    ids = chosen("show logs", agents, label) if agents else labelled("show logs", label)
    only = {"grep": grep, "stream": stream, "instance": instance}
    found = {agent: _fetch(agent, {"tail": tail, "since": moment(since) if since else None, **only}) for agent in ids}
    if json:
        lines = [{"agent_id": agent} | line for agent, view in found.items() for line in view["lines"]]
        lines.sort(key=lambda line: paper.moment(line["time"]))
        paper.document({"lines": lines, "next": {agent: view["next"] for agent, view in found.items()}})
        return
    _print(found)
    while follow:
        time.sleep(_LOOK_S)
        found = {agent: _next(agent, view["next"], only) for agent, view in found.items()}
        _print(found)


def _fetch(agent: str, query: Document) -> Document:
    try:
        return get(agent_path(agent, "/logs"), query)
    except Failure as failure:
        raise no_such_agent("show the logs of", agent) if failure.code == "agent_not_found" else failure from failure


def _next(agent: str, cursor: str, only: dict[str, str | None]) -> Document:
    """Fetch what came after `cursor`; while nobody answers, nothing did: following outlives a restart of OPMAS."""
    try:
        return get(agent_path(agent, "/logs"), {"after": cursor, **only})
    except Failure as failure:
        if failure.exit is not Exit.UNREACHABLE:
            raise
        return {"lines": [], "next": cursor}


def _print(found: dict[str, Document]) -> None:
    numbers = {agent: number for number, agent in enumerate(found)}
    lines = [(paper.moment(line["time"]), agent, line) for agent, view in found.items() for line in view["lines"]]
    for _, agent, line in sorted(lines, key=lambda item: item[0]):
        # Tabs and colours are the author's; what else could drive the terminal is taken out.
        text = line["line"] if paper.coloured(sys.stdout) else paper.plain(line["line"])
        paper.line(f"{paper.prefix(line['instance'], numbers[agent])} {paper.when(line['time'])} {text}")
    sys.stdout.flush()


def moment(text: str) -> str:
    """Read how long ago something was, or when, as a timestamp of the API. Raises `Failure`."""
    if ago := re.fullmatch(r"(\d+)([smhd])", text):
        return (datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise Failure(f"cannot read --since '{text}'", "say 30s, 5m, 2h, 1d or 2026-01-31T12:00", "usage") from None
