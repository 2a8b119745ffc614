"""Types of columns that keep the same values on SQLite and PostgreSQL, and how constraints are named.

No schema name is spelled with any table: on PostgreSQL every connection's search path is `opmas`, SQLite has none.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, DateTime, Dialect, Enum, Integer, Text, TypeDecorator

# SQLite numbers rows by itself only in a column that is exactly INTEGER.
SERIAL = BigInteger().with_variant(Integer, "sqlite")

NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}

_NAIVE = "cannot store {}: it has no time zone"
_ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps no zone, so a naive one is refused before it can be misread."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware time into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(_NAIVE.format(value))
        return value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """Write the text that SQLAlchemy keeps on SQLite, in a sixth of its time."""
        return self._sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def _sqlite_text(self, value: datetime | None) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(_NAIVE.format(value))
        return value.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text that may come from anyone: what PostgreSQL refuses, NUL and lone surrogates, is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return text that every back end takes."""
        return value if value is None else storable(value)


class Json(TypeDecorator[Any]):
    """A JSON value as ASCII text; NaN and infinities, which JSON does not have, become null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode; None stays NULL."""
        if value is None:
            return None
        try:
            return _ENCODE(value)
        except ValueError:
            cleaned = json.loads(json.dumps(value), parse_constant=lambda _: None)
            return _ENCODE(cleaned)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode."""
        return None if value is None else json.loads(value)


class Model(TypeDecorator[Any]):
    """A value that pydantic checks, as its JSON; equal texts share one value, which therefore has to be frozen."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._load = lru_cache(maxsize=256)(self._adapter.validate_json)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode, without what is unset; None stays NULL."""
        return None if value is None else self._adapter.dump_json(value, exclude_none=True).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode."""
        return None if value is None else self._load(value)


def storable(text: str) -> str:
    """Replace what some back end would refuse in `text`."""
    if text.isascii() and "\0" not in text:  # as nearly all is
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def choice(values: type[StrEnum], length: int = 16) -> Enum:
    """Keep one of `values` as its text."""
    return Enum(values, native_enum=False, length=length, values_callable=lambda kind: [str(one.value) for one in kind])
