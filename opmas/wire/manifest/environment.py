"""Environment variables as `agent.yaml` and its env files write them.

What else an instance is given (its identity, its credentials' paths) the manager adds, above all that is here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*(?:=\s*(.*))?")
_COMMENT = re.compile(r"(^|\s)#.*")

SET_BY_OPMAS = frozenset(
    {
        "AGENT_ID",
        "AGENT_NAME",
        "AGENT_TYPE",
        "AGENT_VERSION",
        "NATS_URL",
        "NATS_CREDS",
        "OPMAS_INSTANCE_ID",
        "OPMAS_STATUS_TOKEN_FILE",
    }
)
"""What an instance is found and known by: not the manifest's to set."""

_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG")


def needs_new_interpreter(names: Iterable[str]) -> bool:
    """Say whether a variable among `names` is read when an interpreter starts, hence too late for a fork."""
    return any(name.startswith(_READ_AT_START) for name in names)


def parse_env_file(text: str, filename: str) -> dict[str, str | None]:
    """Read `NAME=value` lines; a bare NAME passes the host's on. Raise ValueError naming file and line.

    A value may stand in single or double quotes; unquoted, a ` #` begins a comment. Nothing is expanded.
    """
    result: dict[str, str | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None or "\0" in stripped:
            raise ValueError(f"{filename}:{number}: must read NAME=value")
        name, value = match.groups()
        if name in SET_BY_OPMAS:
            raise ValueError(f"{filename}:{number}: {name} is set by OPMAS itself: remove it")
        result[name] = None if value is None else _unquote(value, f"{filename}:{number}")
    return result


def _unquote(value: str, where: str) -> str:
    if value[:1] not in {"'", '"'}:
        return _COMMENT.sub("", value).rstrip()
    end = value.find(value[0], 1)
    if end < 0 or _COMMENT.sub("", value[end + 1 :]).strip():
        raise ValueError(f"{where}: the quote that begins the value does not end it")
    return value[1:end]


def merge_environment(layers: Iterable[Mapping[str, str | None]], host: Mapping[str, str]) -> dict[str, str]:
    """Lay `layers` over each other, the last on top; a name without a value takes the host's, if it has one."""
    merged: dict[str, str | None] = {}
    for layer in layers:
        merged.update(layer)
    taken = {name: host.get(name) if value is None else value for name, value in merged.items()}
    return {name: value for name, value in taken.items() if value is not None}


def _mapping(value: object) -> object:
    if not isinstance(value, list):
        return value
    pairs = (str(item).partition("=") for item in value)
    return {name: text if equals else None for name, equals, text in pairs}


def _checked(value: dict[str, str | None]) -> dict[str, str | None]:
    for name, text in value.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"has a name that no program can read: {name!r} (use A-Z, 0-9 and _)")
        if name in SET_BY_OPMAS:
            raise ValueError(f"may not set {name}, which OPMAS sets itself: remove it")
        if text is not None and "\0" in text:
            raise ValueError(f"has a NUL byte in {name}")
    return value


Environment = Annotated[
    dict[str, str | None],
    BeforeValidator(_mapping, json_schema_input_type=dict[str, str | float | bool | None] | list[str]),
    AfterValidator(_checked),
]
