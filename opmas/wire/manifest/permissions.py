"""Which NATS subjects a manifest may ask for beyond the agent's own; a security boundary.

A request for another agent's subjects is refused here, whatever an operator allows; whether a harmless one needs the
operator's word is `refused_subjects`. The credentials themselves are minted by the manager.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from opmas.wire.manifest.model import Manifest

FREE_SUBJECTS = ("logs.>", "findings.>", "events.>")
"""What any agent may use without the operator's word."""

_CLOSED = frozenset({"agent", "run", "opmas"})
_LONGEST = 255
# Braces would be read as a template by the server that makes permissions of these.
_WORD = re.compile(r"[^\s\x00-\x20\x7f.*>{}]+")


def check_subject(subject: str) -> str:
    """Return `subject` when an agent may ever be given it, else raise ValueError."""
    tokens = subject.split(".")
    if len(subject) > _LONGEST or not _is_pattern(tokens):
        raise ValueError(f"must be a NATS subject such as findings.security or logs.>, got {subject!r}")
    if tokens[0] in {"*", ">"}:
        raise ValueError(f"may not begin with a wildcard, got {subject!r}: name the first word, as in logs.>")
    if tokens[0] in _CLOSED or tokens[0].startswith(("$", "_INBOX")):
        raise ValueError(f"may not ask for {subject!r}: {tokens[0]}.* belongs to OPMAS; an agent has its own by right")
    return subject


def _is_pattern(tokens: list[str]) -> bool:
    *head, last = tokens
    return all(word == "*" or _WORD.fullmatch(word) for word in (*head, "*" if last == ">" else last))


def covers(pattern: str, subject: str) -> bool:
    """Say whether everything that `subject` (itself a pattern) matches is matched by `pattern`."""
    wide, narrow = pattern.split("."), subject.split(".")
    for position, word in enumerate(wide):
        if word == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">":
            return False
        if word not in ("*", narrow[position]):
            return False
    return len(narrow) == len(wide)


def refused_subjects(manifest: "Manifest", allow: Iterable[str]) -> list[str]:
    """List the subjects the manifest asks for that are neither free nor within the operator's `allow`."""
    allowed = (*FREE_SUBJECTS, *allow)
    asked = manifest.permissions.subjects
    wanted = dict.fromkeys((*asked.publish, *asked.subscribe))
    return [subject for subject in wanted if not any(covers(pattern, subject) for pattern in allowed)]


SubjectPattern = Annotated[str, AfterValidator(check_subject)]
