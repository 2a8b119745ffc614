"""The authors' guide tells the truth: its examples run, and pass the test it shows."""

import re
from pathlib import Path
from typing import Any

from opmas.agent import Agent
from opmas.agent.testing import AgentHarness
from opmas.wire.manifest import parse_manifest

GUIDE = Path(__file__).parents[3] / "docs" / "agents.md"
YAML, AGENT, TEST, CLERK, CLERK_TEST, FUNCTIONS, VENV = re.findall(
    r"```(?:yaml|python)\n(.*?)```", GUIDE.read_text(), re.DOTALL
)


async def test_the_first_example_passes_its_test() -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(AGENT, names)  # noqa: S102 - the text is ours
    exec(TEST, names)  # noqa: S102

    await names["test_the_third_failure_is_reported"]()


async def test_the_example_of_runs_passes_its_test() -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(CLERK, names)  # noqa: S102
    exec(CLERK_TEST, names)  # noqa: S102

    await names["test_large_amounts_need_a_human"]()


async def test_the_example_of_functions_counts_lines() -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(FUNCTIONS, names)  # noqa: S102
    agent: Agent = names["agent"]

    async with AgentHarness(agent) as harness:
        await harness.send("logs.x", "line")

    assert agent.metrics["lines"] == 1


def test_the_example_of_a_manifest_is_valid() -> None:
    manifest = parse_manifest(YAML, "agent.yaml")
    parse_manifest(YAML + VENV, "agent.yaml")

    assert (manifest.name, manifest.entrypoint) == ("door-watch", "agent.py:DoorWatch")
