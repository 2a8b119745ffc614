"""What the team can look up: a page of notes beside this file, by heading."""

import re
from pathlib import Path

_PAGE = Path(__file__).parent / "shelf.md"


def look_up(question: str) -> str:
    """Find what the shelf says about the words of a question."""
    notes = dict(re.findall(r"^# (\S+)\n(.+?)(?=\n# |\Z)", _PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    asked = set(re.findall(r"\w+", question.lower()))
    found = [
        f"{heading}: {' '.join(text.split())}"
        for heading, text in notes.items()
        if heading in asked or f"{heading}s" in asked
    ]
    return "\n".join(found) or f"The shelf has nothing on this. It knows of {', '.join(notes)}."
