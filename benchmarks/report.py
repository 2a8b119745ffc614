"""Tables in `results.md`: one section for each benchmark, replaced when it is measured again."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")

_HEAD = """# Results

Written by `python -m benchmarks`; see README.md for what is measured and how. Each section was one run on one machine.
"""


@dataclass
class Section:
    """One benchmark's table with its notes; cells are written as they are given."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the section's text without its heading."""
        lines = [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows)]
        notes = [f"* {note}" for note in (*self.notes, machine())]
        return "\n".join([f"**{self.title}**", "", *lines, "", *notes, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Describe this machine and the versions that count."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} x {model[1] if model else platform.processor()}, {memory:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, agno {version('agno')}, "
        f"nats-py {version('nats-py')}"
    )


def write(name: str, section: Section) -> str:
    """Put the section into `results.md` and return it."""
    sections: dict[str, str] = {}
    if RESULTS.exists():
        parts = re.split(r"^## (\w+)\n", RESULTS.read_text(), flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    sections[name] = f"\n{section.markdown()}\n"
    body = "".join(f"## {each}\n{text.rstrip()}\n\n" for each, text in sorted(sections.items()))
    RESULTS.write_text(f"{_HEAD}\n{body.rstrip()}\n")
    return section.markdown()


def ratio(theirs: float, ours: float) -> str:
    """Say how many times ours fits into theirs."""
    return f"{theirs / ours:.1f}x" if ours else "-"
