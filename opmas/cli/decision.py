"""Confirmations at the terminal: what a run asks, how a human answers, and how to answer later."""

import json
from typing import Any

from opmas.cli import paper
from opmas.cli.connection import Document


def ask(details: Document) -> tuple[bool, str, Document | None]:
    """Put a confirmation to the human at the terminal: yes or no, a note, and the arguments if they were edited."""
    show_request(details)
    while True:
        said = input("confirm? y, n, n WHY, or e to edit the arguments: ").strip()
        word, _, note = said.partition(" ")
        if word.lower() in {"y", "yes"}:
            return True, note, None
        if word.lower() in {"n", "no"}:
            return False, note, None
        if word.lower() in {"e", "edit"} and (edited := _edited(details["toolArgs"])) is not None:
            return True, "", edited


def show_request(details: Document) -> None:
    """Show what a human is asked."""
    paper.line(paper.prose(details["message"]))
    if what := _what(details):
        paper.line(f" {what}")  # it begins with a space itself


def _edited(arguments: Document) -> Document | None:
    import readline  # noqa: PLC0415 - only editing needs it

    readline.set_startup_hook(lambda: readline.insert_text(json.dumps(arguments, ensure_ascii=False)))
    try:
        given = json.loads(input("arguments: "))
    except ValueError:
        given = None
    finally:
        readline.set_startup_hook(None)
    if isinstance(given, dict):
        return given
    paper.note("that is no JSON object")
    return None


def waits_for(data: Any) -> Document | None:
    """Find the confirmation that a run waits for in its data."""
    details = data.get("confirmationDetails") if isinstance(data, dict) and data.get("requiresConfirmation") else None
    return details if isinstance(details, dict) else None


def waiting(run_id: str, details: Document) -> str:
    """Tell what a run waits for, and how to decide."""
    asked = paper.plain(details.get("message") or "a confirmation")
    return (
        f"run {run_id} waits for a human: {asked}{_what(details)}\n"
        f"  yes: opmas runs confirm {run_id}\n  no:  opmas runs confirm {run_id} --no"
    )


def _what(details: Document) -> str:
    arguments = details.get("toolArgs") or {}
    words = [details.get("toolName") or "", json.dumps(arguments, ensure_ascii=False) if arguments else ""]
    return paper.plain(f" ({' '.join(filter(None, words))})") if any(words) else ""
