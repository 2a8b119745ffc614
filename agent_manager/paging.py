"""As much of a long answer as fits into one message."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

from opmas.wire.messages import Message

V = TypeVar("V", bound=Message)

# An answer travels in one message of at most 1 MB.
_MAX_BYTES = 600_000


def fitting(views: Sequence[V]) -> tuple[V, ...]:
    """As many of the first as fit into one message."""
    sizes = itertools.accumulate(len(view.model_dump_json()) for view in views)
    return tuple(view for view, size in zip(views, sizes, strict=True) if size <= _MAX_BYTES)


def page(views: Sequence[V], after: int | None) -> tuple[V, ...]:
    """Of rows in the order of time as many as fit: the first after a place, or the last of all."""
    return fitting(views) if after is not None else fitting(views[::-1])[::-1]
