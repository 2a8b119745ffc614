"""Statements that are run with every operation: compiled once, and on SQLite handed to its driver as they are.

SQLAlchemy takes some 0.1 ms to pass on a statement that SQLite does in 0.01. What it is needed for, the text and the
conversion of values, is the same each time. PostgreSQL is a message away: there SQLAlchemy does what it always does.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Select, UpdateBase
from sqlalchemy.exc import StatementError
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any] | None


class Prepared:
    """A statement with `bindparam`s, which is given values of the same names each time; an expanding one takes a list.

    An insert names no columns: they are those of the first values.
    """

    def __init__(self, statement: Select[Any] | UpdateBase) -> None:
        self._statement = statement
        self._plain: dict[tuple[int, ...], _Plain] = {}  # by the lengths of lists, since each element has its mark

    def rows(self, connection: Connection, values: Values) -> list[dict[str, Any]]:
        """Read what it selects."""
        if connection.dialect.driver != "pysqlite":
            return [dict(row) for row in connection.execute(self._statement, values).mappings()]
        values = {name: _padded(value) if type(value) is list else value for name, value in values.items()}
        plain = self._plainly(connection, values)
        return [plain.row(found) for found in _driver(connection).execute(plain.text, plain.bound(values))]

    def each(self, connection: Connection, values: Sequence[Values]) -> None:
        """Write all of `values`, if there are any."""
        if not values:
            return
        if connection.dialect.driver != "pysqlite":
            connection.execute(self._statement, values)
            return
        plain = self._plainly(connection, values[0])
        _driver(connection).executemany(plain.text, [plain.bound(one) for one in values])

    def _plainly(self, connection: Connection, values: Values) -> "_Plain":
        lengths = tuple(len(value) for value in values.values() if type(value) is list)
        if (plain := self._plain.get(lengths)) is None:
            plain = self._plain[lengths] = _Plain(self._statement, connection.dialect, values)
        return plain


class _Plain:
    """The text of a statement, and what turns values into SQLite's and back; None is NULL in all columns."""

    def __init__(self, statement: Select[Any] | UpdateBase, dialect: Dialect, values: Values) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(values), for_executemany=True)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - for the type checker
        self.text = compiled.construct_expanded_state(values).statement
        binds = {name: compiled.binds[name] for name in compiled.positiontup or ()}
        self._constants = {name: bind.value for name, bind in binds.items() if name not in values}
        self._given = [
            (name, bind.type.dialect_impl(dialect).bind_processor(dialect), bind.expanding)
            for name, bind in ((name, binds[name]) for name in compiled.positiontup or ())
        ]
        columns = statement.selected_columns.items() if isinstance(statement, Select) else ()
        self._columns = [
            (name, column.type.dialect_impl(dialect).result_processor(dialect, None)) for name, column in columns
        ]

    def bound(self, values: Values) -> list[Any]:
        if self._constants:
            values = {**self._constants, **values}
        found: list[Any] = []
        try:
            for name, convert, is_list in self._given:
                if is_list:
                    found += values[name] if convert is None else map(convert, values[name])
                else:
                    value = values[name]
                    found.append(value if convert is None or value is None else convert(value))
        except (TypeError, ValueError) as error:  # as SQLAlchemy says it of a value that no column can hold
            raise StatementError(str(error), self.text, None, error) from error
        return found

    def row(self, found: Sequence[Any]) -> dict[str, Any]:
        return {
            name: value if convert is None or value is None else convert(value)
            for (name, convert), value in zip(self._columns, found, strict=True)
        }


def _padded(values: list[Any]) -> list[Any]:
    """Repeat the last until a power of two is full: else there would be a text for each length."""
    return values + values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values)) if values else values


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]  # of that dialect
    return driver
