"""How text typed at a shell becomes the value of a setting."""

from typing import Any

import pytest

from opmas.cli.config import typed
from opmas.cli.waiting import is_final


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", {"type": "integer"}, 5),
        ("5", {"type": "string"}, "5"),
        ("5", {"type": "number"}, 5),
        ("5", {"type": ["string", "integer"]}, 5),
        ("5", {}, 5),
        ("true", {"type": "boolean"}, True),
        ("true", {"type": "string"}, "true"),
        ("yes", {"type": "boolean"}, "yes"),  # the manager says what is wrong with it
        ("null", {"type": ["string", "null"]}, None),
        ("null", {"type": "string"}, "null"),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ('{"a": 1}', {}, {"a": 1}),
        ('"5"', {"type": "string"}, "5"),
        ("plain words", {}, "plain words"),
        ("", {}, ""),
    ],
)
def test_text_becomes_what_the_schema_asks_for(text: str, kind: dict[str, Any], value: object) -> None:
    assert typed(text, kind) == value
    assert type(typed(text, kind)) is type(value)


def test_only_an_error_that_is_not_tried_again_is_final() -> None:
    again, given_up = {"next_retry_at": "2026-01-01T00:00:00Z"}, {"next_retry_at": None}

    assert is_final({"status": "error", "instances": []})
    assert is_final({"status": "error", "instances": [given_up]})
    assert not is_final({"status": "error", "instances": [given_up, again]})
    assert not is_final({"status": "starting", "instances": [given_up]})
