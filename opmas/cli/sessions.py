"""Verbs about sessions: `sessions ls`, `show`, `rename`, `export`, `rm`."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from opmas.cli import connection, paper
from opmas.cli.connection import get
from opmas.cli.failure import Failure
from opmas.cli.lookup import looked_up
from opmas.cli.selection import Json

_PATH = "/api/v1/sessions"

T = TypeVar("T")


def ls_sessions(*, agent: str | None = None, user: str | None = None, limit: int = 20, json: Json = False) -> None:
    """List sessions, the most recently used first.

    Args:
        agent: only sessions with this agent
        user: only sessions of this user
        limit: at most so many
        json: one JSON document, as the API answers it
    """
    found = get(_PATH, {"agent": agent, "user": user, "limit": limit})
    if json:
        paper.document(found)
        return
    head = ("SESSION", "AGENT", "USER", "RUNS", "MESSAGES", "TOKENS", "USED", "TITLE")
    rows = [
        (
            session["sessionId"],
            session["agentId"],
            session["userId"],
            session["runCount"],
            session["messageCount"],
            session["totalTokens"],
            paper.when(session["updatedAt"]),
            session["title"],
        )
        for session in found["sessions"]
    ]
    paper.table(head, rows, ("TOKENS", "MESSAGES", "USER", "RUNS"))
    if not rows:
        paper.note("no sessions: `opmas chat AGENT` begins one")


def show_session(session: str, /, *, json: Json = False) -> None:
    """Show what was said in a session.

    Args:
        session: the session's id, or the beginning of it
        json: one JSON document, as the API answers it
    """
    found = _known("show", session, lambda one: get(_path(one)))
    if json:
        paper.document(found)
        return
    runs = f"{found['runCount']} run{'s' if found['runCount'] != 1 else ''}"
    paper.line(f"{paper.plain(found['title'])} ({found['agentId']}, {runs})")
    for said in found["messages"]:
        paper.line(f"\n{said['role']}, {paper.when(said['timestamp'])}:\n{paper.prose(said['content'])}")


def rename_session(session: str, title: str, /, *, json: Json = False) -> None:
    """Give a session another title.

    Args:
        session: the session's id, or the beginning of it
        title: the new title
        json: one JSON document, as the API answers it
    """
    renamed = _known("rename", session, lambda one: connection.send("PATCH", _path(one), {"title": title}))
    paper.document(renamed) if json else paper.line(f"{session}: {paper.plain(renamed['title'])}")


def export_session(
    session: str, /, *, format_: Literal["json", "markdown"] = "markdown", output: Path | None = None
) -> None:
    """Print a session as one document.

    Args:
        session: the session's id, or the beginning of it
        format_: json or markdown
        output: a file to write it to
    """
    text = _known("export", session, lambda one: connection.text(_path(one, "/export"), {"format": format_}))
    if output is None:
        paper.line(text.rstrip("\n") if format_ == "json" else paper.prose(text.rstrip("\n")))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror}", "choose another --output") from error
    paper.line(str(output))


def rm_sessions(*sessions: str, json: Json = False) -> None:
    """Delete sessions with their runs.

    Args:
        sessions: their ids, or the beginnings of them
        json: one JSON document: {deleted}
    """
    if not sessions:
        raise Failure("cannot delete: no session is named", "`opmas sessions ls` lists them", "usage")
    for session in sessions:
        _delete(session)
        if not json:
            paper.line(f"{session}: deleted")
    if json:
        paper.document({"deleted": sessions})


def _delete(session: str) -> None:
    _known("delete", session, lambda one: connection.send("DELETE", _path(one)))


def _path(session: str, part: str = "") -> str:
    return f"{_PATH}/{quote(session, safe='')}{part}"


def _known(act: str, session: str, call: Callable[[str], T]) -> T:
    return looked_up(act, "session", session, call, _latest)


def _latest() -> list[str]:
    return [found["sessionId"] for found in get(_PATH, {"limit": 200})["sessions"]]
