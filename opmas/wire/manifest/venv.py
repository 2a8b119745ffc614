"""What an agent wants installed for itself: `isolation` and `dependencies` of `agent.yaml`.

Only words are checked here; which versions they stand for the installer finds out.
"""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from opmas.wire.manifest.sections import Section, contradiction

# What pip would read as an option, a path or a comment is none.
_REQUIREMENT = re.compile(r"[A-Za-z0-9][^\n\r\0]*")


class Isolation(StrEnum):
    """Where an instance finds the packages it imports."""

    NONE = "none"
    VENV = "venv"


def _requirement(value: str) -> str:
    if not _REQUIREMENT.fullmatch(value.strip()):
        raise ValueError(f"must be a requirement such as 'requests>=2.32', got {value!r}")
    return value.strip()


class RequirementSpec(Section):
    """Requirements, in the manifest itself or in a file of the package."""

    packages: tuple[Annotated[str, AfterValidator(_requirement)], ...] = ()
    file: Annotated[str, Field(min_length=1)] | None = None
    """A requirements file, seen from the package."""


def _spec(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return {"packages": value}
    if isinstance(value, dict) and "file" in value and "packages" in value:
        raise contradiction("dependencies.file", "and packages exclude each other: keep one")
    return value


Requirements = Annotated[RequirementSpec, BeforeValidator(_spec, json_schema_input_type=list[str] | RequirementSpec)]
