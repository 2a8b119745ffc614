"""What a caller hears when the database fails it, and the deadlines after which it does.

A driver's own exception never leaves a server's store. What says "this statement is wrong" is kept apart from what says
"the database does not answer": only the second means that trying again later may help.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from opmas.wire.errors import Conflict, DatabaseUnavailable, InvalidRequest, OpmasError


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait for a database, in seconds."""

    connect: float = 5.0
    """For a connection, or for the lock that a writer needs."""
    statement: float = 5.0
    """For one statement: the limit of the server and of the driver."""

    @property
    def transaction(self) -> float:
        """For what hangs beyond that, where neither server nor driver can tell."""
        return max(self.connect, self.statement) * 1.2

    @property
    def call(self) -> float:
        """For a caller of ours, time in the writer's queue included: 9 s, below the 10 s that we promise."""
        return max(self.connect, self.statement) * 1.8


HINT = "check that the database runs and that OPMAS_DATABASE__URL points to it; agents keep running meanwhile"

# SQLSTATE class 22 is "data exception": a value that no retry will make acceptable.
_DATA_EXCEPTION = "22"


_DRIVER_ERRORS = (SQLAlchemyError, sqlite3.Error, OSError)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise an `OpmasError` that begins with "cannot {doing}" instead of whatever the database's driver raises."""
    try:
        yield
    except _DRIVER_ERRORS as error:
        raise _fault(doing, error) from error


# Serialization failure and deadlock: two servers got into each other's way, and one of them has to try again.
_COLLISIONS = ("40001", "40P01")


def is_outage(error: Exception) -> bool:
    """Say whether the database is at fault, not the statement: its neighbours in a transaction would fare no better."""
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _COLLISIONS:
        return False
    return isinstance(error, _DRIVER_ERRORS) and isinstance(_fault("", error), DatabaseUnavailable)


def _fault(doing: str, error: Exception) -> OpmasError:
    if isinstance(error, TimeoutError):  # of the driver or of `asyncio.timeout`
        return DatabaseUnavailable(f"cannot {doing}: the database does not answer in time", HINT)
    reason = _reason(error)
    if isinstance(error, (IntegrityError, sqlite3.IntegrityError)):
        return Conflict(f"cannot {doing}: the database refuses it: {reason}", "read the record again and retry")
    if _is_unacceptable(error):
        return InvalidRequest(f"cannot {doing}: the database cannot hold a value: {reason}", "correct the value")
    return DatabaseUnavailable(f"cannot {doing}: {reason}", HINT)


def _is_unacceptable(error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        return (getattr(error.orig, "sqlstate", None) or "").startswith(_DATA_EXCEPTION)
    return isinstance(error, StatementError)  # raised while binding a value, before the driver saw it


def _reason(error: Exception) -> str:
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    # The adapter wraps asyncpg's text as "<class '…'>: text"; people need the text only.
    lines = str(cause.__cause__ or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
