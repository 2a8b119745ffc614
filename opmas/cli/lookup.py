"""Ids of runs and sessions as people give them: whole, or the beginning, which is what a narrow table shows."""

import difflib
from collections.abc import Callable
from typing import TypeVar

from opmas.cli.failure import Exit, Failure

# A shorter one is a slip.
_SHORTEST = 8
# Of more that begin alike `ls` tells.
_TOLD = 3

T = TypeVar("T")


def looked_up(act: str, noun: str, given: str, call: Callable[[str], T], latest: Callable[[], list[str]]) -> T:
    """Make `call` with an id, or the one of the `latest` that begins so. Raises `Failure`, with the nearest."""
    try:
        return call(given)
    except Failure as failure:
        if failure.exit is not Exit.NOT_FOUND:
            raise
        known, beginning = latest(), given.rstrip("…")
        near = [one for one in known if one.startswith(beginning)]
        if len(near) == 1 and len(beginning) >= _SHORTEST:
            return call(near[0])
        near = near or difflib.get_close_matches(given, known, n=1)
        if len(near) > 1 and len(beginning) >= _SHORTEST:
            hint = f"give more of one: {', '.join(near[:_TOLD])}{', …' if len(near) > _TOLD else ''}"
            raise Failure(f"cannot {act} '{given[:100]}': {len(near)} {noun}s begin so", hint, "usage") from failure
        hint = (f"did you mean '{near[0]}'? " if near else "") + f"`opmas {noun}s ls` lists the latest"
        raise Failure(f"cannot {act} '{given[:100]}': no such {noun}", hint, f"{noun}_not_found") from failure
