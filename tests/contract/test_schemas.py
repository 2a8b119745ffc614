"""The JSON Schema of everything that travels lies in `schemas/`, so that a change of the contract shows as a diff.

After an intended change, run this file: `.venv/bin/python tests/contract/test_schemas.py` rewrites them.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import opmas.wire
from opmas.wire.manifest import manifest_schema

SCHEMAS = Path(__file__).with_name("schemas")
REWRITE = ".venv/bin/python tests/contract/test_schemas.py"


def contract() -> dict[str, dict[str, Any]]:
    """Make the schema of each model of `opmas.wire`, and of the manifest as a whole, by file name."""
    schemas = {f"{module}.{model.__name__}": model.model_json_schema() for module, model in models()}
    return {**schemas, "manifest": manifest_schema()}


def models() -> Iterator[tuple[str, type[BaseModel]]]:
    for module in pkgutil.iter_modules(opmas.wire.__path__):
        if not module.ispkg:
            names = vars(importlib.import_module(f"opmas.wire.{module.name}"))
            for value in names.values():
                if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == names["__name__"]:
                    yield module.name, value


def written(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", sorted(contract()))
def test_what_travels_has_the_shape_that_was_agreed(name: str) -> None:
    kept = SCHEMAS / f"{name}.json"

    assert kept.exists(), f"{name} is new: keep its schema with `{REWRITE}`"
    assert written(contract()[name]) == kept.read_text(), f"{name} has changed: if that is meant, run `{REWRITE}`"


def test_no_schema_is_kept_of_what_no_longer_travels() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} <= contract().keys(), f"remove them with `{REWRITE}`"


def rewrite() -> None:
    for path in SCHEMAS.glob("*.json"):
        path.unlink()
    for name, schema in contract().items():
        (SCHEMAS / f"{name}.json").write_text(written(schema))


if __name__ == "__main__":
    rewrite()
