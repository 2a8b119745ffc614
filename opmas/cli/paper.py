"""What commands print: tables that fit the terminal, colours where they are welcome, one JSON document, notes.

Tables are set by hand: importing rich takes 0.1 s, a third of what `opmas ls` may take. Into a pipe nothing is cut and
nothing is coloured.
"""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TextIO

_COLOURS = {"running": "32", "starting": "33", "inactive": "33", "stopped": "2", "error": "31"} | {
    "completed": "32", "pending": "33", "waiting_confirmation": "33", "cancelled": "2", "expired": "31",
    "interrupted": "31", "failed": "31",
}  # fmt: skip
_PREFIXES = ("36", "33", "32", "35", "34", "31")
_GAP = "  "
_NARROWEST = 8
# A date with its time, a status: columns are left out rather than that others say less than this; the last may.
_READABLE = 20
# The first column is what people type next: an id of 32 characters is never cut, a longer name is.
_WHOLE = 36
# Control characters, and halves of characters that no terminal takes.
_UNFIT = frozenset({"Cc", "Cs"})


def coloured(stream: TextIO) -> bool:
    """Whether colours are welcome on `stream` (see no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Colour `text` by an SGR code where colours are welcome: on stdout, unless it is meant for another stream."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and coloured(stream or sys.stdout) else text


def prefix(name: str, number: int) -> str:
    """Colour the name before a line, the same way for the same number."""
    return paint(name, _PREFIXES[number % len(_PREFIXES)])


def document(value: object) -> None:
    """Print the one JSON document of a command."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def compact(value: object) -> None:
    """Print one JSON document of many on a line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def value(given: object) -> str:
    """Show a JSON value as people write it: text as it is."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def line(text: str = "") -> None:
    """Print a line for people, without the control characters that somebody may have put into a name."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Say something beside the result."""
    sys.stderr.write(text + "\n")


def plain(text: object) -> str:
    """Return `text` on one line, without control characters: what agents say must not drive the terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def prose(text: str) -> str:
    """Return `text` with its lines and tabs, but without what would drive the terminal."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNFIT else " " for c in text)


def piece(text: str) -> None:
    """Print a piece of an answer at once, as it comes."""
    sys.stdout.write(prose(text))
    sys.stdout.flush()


def aside(text: str) -> None:
    """Say dimly what goes on beside the result."""
    note(paint(plain(text), "2", sys.stderr))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], spare: Sequence[str] = ()) -> None:
    """Print columns under `head`. In a terminal they fit: `spare` ones are left out in order, wide ones cut.

    The first column, by which people name a row elsewhere, stays whole.
    """
    cells = [[plain("-" if cell in {None, ""} else cell) for cell in row] for row in rows]
    columns = [list(column) for column in zip_longest(head, *cells, fillvalue="")]
    if sys.stdout.isatty():
        _leave_out(columns, spare, shutil.get_terminal_size().columns)
    widths = [max(map(_width, column)) for column in columns]
    if sys.stdout.isatty():
        _fit(widths, shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1))
    for number, row in enumerate(zip(*columns, strict=True)):
        line(_row(row, widths, bold=not number))


def _row(cells: Sequence[str], widths: Sequence[int], *, bold: bool = False) -> str:
    shown = [_cut(cell, width) for cell, width in zip(cells, widths, strict=True)]
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(shown, widths, strict=True)]
    padded[-1] = padded[-1].rstrip()
    return _GAP.join(paint(text, "1" if bold else _COLOURS.get(text.strip(), "")) for text in padded)


def _leave_out(columns: list[list[str]], spare: Sequence[str], room: int) -> None:
    for name in spare:
        widths = [max(map(_width, column)) for column in columns]
        if sum(_floors(widths, _READABLE)) + len(_GAP) * (len(widths) - 1) <= room:
            return
        columns[:] = [column for column in columns if column[0] != name]


def _fit(widths: list[int], room: int) -> None:
    for floors in (_floors(widths, _READABLE), _floors(widths, _NARROWEST)):
        while sum(widths) > room and (above := [at for at, floor in enumerate(floors) if widths[at] > floor]):
            widths[max(above, key=widths.__getitem__)] -= 1


def _floors(widths: Sequence[int], least: int) -> list[int]:
    floors = [_WHOLE, *[least] * (len(widths) - 2), _NARROWEST][: len(widths)]
    return list(map(min, widths, floors))


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def status(word: str) -> str:
    """Colour a status."""
    return paint(word, _COLOURS.get(word, ""))


def when(text: str | None) -> str:
    """Show a timestamp as local time, with the day only if it is not today."""
    if not text:
        return "-"
    then = moment(text).astimezone()
    return then.strftime("%H:%M:%S" if then.date() == datetime.now(UTC).astimezone().date() else "%Y-%m-%d %H:%M:%S")


def moment(text: str) -> datetime:
    """Read a timestamp of the API (Python 3.11 reads its `Z`)."""
    return datetime.fromisoformat(text)


def duration(seconds: float | None) -> str:
    """Show seconds in their largest two units: `3d4h`, `5m12s`, `7s`."""
    if seconds is None:
        return "-"
    left, parts = int(seconds), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def size(count: float | None) -> str:
    """Show bytes in the unit that leaves at most three digits before the point."""
    if count is None:
        return "-"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in {"B", "KB"} else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
