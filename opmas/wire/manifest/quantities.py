"""Quantities as people write them: durations (`1m30s`) become seconds, sizes (`10MB`) bytes, counts whole numbers.

Only types live here; which field takes which, and its default, stands in the models.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_LONGEST_S = 366 * 86400.0  # beyond a year it is a slip of the unit

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kKMGT])(i?))?B?")
_POWERS = {"k": 1, "M": 2, "G": 3, "T": 4}
_LARGEST = 2**63 - 1  # what an rlimit holds


def seconds(value: object) -> float:
    """Read a duration: `500ms`, `5s`, `2m`, `1h`, `1d`, `1m30s`, or a number of seconds."""
    result = math.nan
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        result = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        result = float(value)
    if not 0 <= result <= _LONGEST_S:
        raise ValueError(f"must be a duration like 5s, 500ms, 2m or 1h30m, up to 366d, got {value!r}")
    return result


def positive_seconds(value: object) -> float:
    """Read a duration that may not be zero."""
    result = seconds(value)
    if result == 0:
        raise ValueError(f"must be longer than zero, got {value!r}")
    return result


def size_bytes(value: object) -> int:
    """Read a size: `10MB` (1000s), `512Ki`, `1GiB` (1024s), or a number of bytes."""
    result = 0
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        number, power, binary = match.groups()
        factor = (1024 if binary else 1000) ** _POWERS[power.replace("K", "k")] if power else 1
        result = int(float(number) * factor)
    elif isinstance(value, int) and not isinstance(value, bool):
        result = value
    if not 1 <= result <= _LARGEST:
        raise ValueError(f"must be a size like 10MB, 512Ki or 1GiB, got {value!r}")
    return result


def whole(minimum: int, maximum: int) -> BeforeValidator:
    """Accept a whole number between two bounds, both included."""
    return BeforeValidator(
        lambda value: _within(value, minimum, maximum), json_schema_input_type=_number(minimum, maximum)
    )


def whole_or_none(minimum: int, maximum: int) -> BeforeValidator:
    """Accept a whole number between two bounds, or `none` for as many as may be."""
    return BeforeValidator(
        lambda value: None if value is None or value == "none" else _within(value, minimum, maximum),
        json_schema_input_type=_number(minimum, maximum) | Literal["none"] | None,
    )


def _within(value: object, minimum: int, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"must be a whole number ≥ {minimum}, got {value!r}")
    if value > maximum:
        raise ValueError(f"must be a whole number ≤ {maximum}, got {value!r}")
    return value


def _number(minimum: int, maximum: int) -> Any:
    return Annotated[int, Field(ge=minimum, le=maximum)]


_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|[smhd]))+$"},
    ],
    "examples": ["5s", "500ms", "1m30s"],
}
_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\d+(\.\d+)? ?([kKMGT]i?)?B?$"},
    ],
    "examples": ["10MB", "512Ki", "1GiB"],
}

Duration = Annotated[float, BeforeValidator(seconds), WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[float, BeforeValidator(positive_seconds), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(size_bytes), WithJsonSchema(_SIZE_SCHEMA)]
