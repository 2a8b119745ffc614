"""JSON that everybody can read: what callers and agents may put into a run.

What passes here passes every process, database and client that it meets on its way. Refused where it comes in, it
cannot get stuck later: an instance that cannot read a run could neither do it nor say so.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, JsonValue

_T = TypeVar("_T")

# Parsers stop at some depth (ours at 200), and a document travels inside several others.
DEPTH: Final = 100


def require_readable(value: Any) -> None:
    """Raise `ValueError` when a document is nested too deep, or has text or numbers that JSON cannot say."""
    level = [value]
    for _ in range(DEPTH):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return
    raise ValueError(f"lists and objects are nested more than {DEPTH} deep")


def _parts(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        for key, part in item.items():
            _require_text(key)
            yield part
    elif isinstance(item, list):
        yield from item
    elif isinstance(item, str):
        _require_text(item)
    elif isinstance(item, float) and not math.isfinite(item):
        raise ValueError(f"{item} is no number that JSON knows")


def _require_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError("half of a surrogate pair is no text") from error


def _readable(value: _T) -> _T:
    require_readable(value)
    return value


Document = Annotated[dict[str, JsonValue], AfterValidator(_readable)]
"""An object that everybody can read."""

Text = Annotated[str, AfterValidator(_readable)]
"""Text that everybody can read."""
