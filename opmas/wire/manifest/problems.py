"""What is wrong with a manifest, in words a person can act on: one line per problem, with file, line and column."""

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from opmas.wire.manifest.document import Document, Path

# Known fields that nothing enforces yet: accepting them would promise what is not done.
NOT_YET = {
    "resources.reservations",
    "resources.limits.cpus",
    "resources.limits.gpus",
}

# So many problems at once; who has more begins with these.
_SHOWN = 20

_WORDS = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge:g}",
    "string_pattern_mismatch": "must be a name such as package.module",
    "string_too_short": "must not be empty",
}


def describe(error: ValidationError, model: type[BaseModel], document: Document, filename: str) -> list[str]:
    """Write one line for each problem, in the order of the file."""
    found = [_problem(details, model, document) for details in error.errors(include_url=False)]
    lines = [f"{filename}:{line}:{column}: {words}" for line, column, words in sorted(set(found))]
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more"]


def _problem(details: ErrorDetails, model: type[BaseModel], document: Document) -> tuple[int, int, str]:
    path: Path = tuple(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return *document.position(path, of_key=True), _unknown(path, model)
    if kind == "missing":
        return *document.position(path[:-1]), f"{_dotted(path)} is missing: add it"
    if kind == "contradiction":
        path = tuple(context["at"].split(".")) if context["at"] else ()
        return *document.position(path), f"{_dotted(path)} {context['words']}".strip()
    return *document.position(path), f"{_dotted(path)} {_wrong(details, context)}".strip()


def _unknown(path: Path, model: type[BaseModel]) -> str:
    key = str(path[-1])
    if _dotted(path) in NOT_YET:
        return f"{_dotted(path)!r} is not supported yet: remove it"
    close = difflib.get_close_matches(key, _fields(model, path[:-1]), n=1)
    within = f" in {_dotted(path[:-1])}" if len(path) > 1 else ""
    return f"unknown key {_shown(key)}{within}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _wrong(details: ErrorDetails, context: dict[str, Any]) -> str:
    if details["type"] == "value_error":
        return str(context["error"])
    words = _WORDS.get(details["type"])
    if words is None:
        return f"is wrong: {details['msg'].lower()}"
    got = details["input"]
    expected = str(context.get("expected", ""))
    close = difflib.get_close_matches(str(got), expected.replace("'", "").replace(" or ", ", ").split(", "), n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{words.format(**{'expected': expected, **context})}, got {_shown(got)}{hint}"


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _dotted(path: Iterable[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """List the keys that the mapping at `path` may have."""
    current: Any = model
    for step in path:
        current = _keys(current).get(str(step)) if _is_model(current) else _inner_model(current)
    return list(_keys(current if _is_model(current) else _inner_model(current)))


def _keys(model: Any) -> dict[str, Any]:
    fields = model.model_fields.items() if model is not None else ()
    return {field.alias or name: field.annotation for name, field in fields}


def _is_model(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _inner_model(annotation: Any) -> Any:
    """Find the model within `tuple[Model, ...]`, `dict[str, Model]` or `Model | None`."""
    if get_origin(annotation) in (tuple, list, dict, Union, UnionType):
        return next((inner for inner in get_args(annotation) if _is_model(inner)), None)
    return None
