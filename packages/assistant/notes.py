"""The notes that users leave with the assistant: each user of each workspace has their own."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from agno.run import RunContext
from agno.tools import tool

_TABLE = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, text TEXT NOT NULL)"


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    # A file that the replicas of the agent share; by hand, without a manager, one in the folder one is in.
    file = Path(os.environ.get("OPMAS_DATA_DIR") or ".") / "notes.db"
    with closing(sqlite3.connect(file, timeout=10)) as database, database:
        database.execute(_TABLE)
        yield database


def _owner(run_context: RunContext) -> str:
    who = run_context.dependencies or {}
    return f"{who.get('workspace_id', '')}/{who.get('user_id', '')}"


def take_note(text: str, run_context: RunContext) -> str:
    """Keep a note for the user."""
    with _database() as database:
        database.execute("INSERT INTO notes (owner, text) VALUES (?, ?)", (_owner(run_context), text))
    return f"Noted: {text}"


def list_notes(run_context: RunContext) -> str:
    """List the notes of the user."""
    with _database() as database:
        found = database.execute(
            "SELECT text FROM notes WHERE owner = ? ORDER BY id", (_owner(run_context),)
        ).fetchall()
    return "\n".join(f"- {text}" for (text,) in found) or "There are no notes."


@tool(requires_confirmation=True)
def delete_notes(containing: str, run_context: RunContext) -> str:
    """Delete the notes of the user that contain these words; without words, all of them."""
    with _database() as database:
        deleted = database.execute(
            "DELETE FROM notes WHERE owner = ? AND instr(text, ?)", (_owner(run_context), containing)
        ).rowcount
    return f"Deleted {deleted} {'note' if deleted == 1 else 'notes'}."
