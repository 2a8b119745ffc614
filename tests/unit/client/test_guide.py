"""The guide to the client: its examples are Python, and name only what there is."""

import ast
import re
from pathlib import Path

from opmas.client import OpmasClient

GUIDE = (Path(__file__).parents[3] / "docs" / "client.md").read_text(encoding="utf-8")


def test_every_example_reads_as_python_and_calls_what_a_client_has() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)

    assert len(blocks) == 3
    calls = {
        node.attr
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "opmas"
    } - {"client"}
    assert all(hasattr(OpmasClient, name) for name in calls)


def test_every_call_in_the_table_is_there() -> None:
    table = GUIDE.partition("## Calls")[2].partition("Each takes")[0]
    named = {
        name for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)\(", cell)
    }

    assert len(named) > 15
    assert all(hasattr(OpmasClient, name) for name in named)
