"""The id that ties together all messages and log lines of one request, carried in a context variable.

It is read from a header of what comes in and written on all that goes out meanwhile; nobody passes it by hand.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from opmas.wire.subjects import CORRELATION_HEADER

# Printable ASCII without spaces: it goes into headers and log lines, and strangers choose it.
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")

_current: ContextVar[str | None] = ContextVar("opmas.bus.correlation", default=None)


def correlation_id() -> str | None:
    """Tell the id of the request being handled, if there is one."""
    return _current.get()


@contextmanager
def correlated(wanted: str | None = None) -> Iterator[str]:
    """Handle one request under the id `wanted`; a missing or unacceptable one is replaced by a new one."""
    chosen = wanted if wanted and _ACCEPTABLE.fullmatch(wanted) else uuid4().hex
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def correlation_of(headers: Mapping[str, str]) -> str | None:
    """Find the id among the headers of a message, however they are capitalised."""
    return next((value for name, value in headers.items() if name.lower() == CORRELATION_HEADER), None)


def outgoing(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the headers to send: those given, and the current id unless they name one."""
    current = _current.get()
    if current is None:
        return dict(headers) if headers else None
    return {CORRELATION_HEADER: current, **(headers or {})}
