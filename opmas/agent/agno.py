"""The bridge to Agno: an Agno agent, team or workflow as an agent of ours.

The only module that imports Agno (with the offline model beside it), and that only when called: reading `PRELOAD` must
cost nothing.
"""

import asyncio
import inspect
import os
from typing import Any, Protocol

from pydantic import JsonValue

from opmas.agent import PRELOAD as _RUNTIME
from opmas.agent.author import Agent
from opmas.wire.errors import PackageInvalid

# What a template for `runtime: agno` imports. Importing these in the fork costs 0.3 s and 45 MB per instance.
PRELOAD: tuple[str, ...] = (*_RUNTIME, "agno.agent", "agno.team", "agno.run.agent", "opmas.agent.offline")


class Runnable(Protocol):
    """What Agno's agents, teams and workflows have in common."""

    async def arun(self, *arguments: Any, **options: Any) -> Any:
        """Run once."""
        ...


_REHEARSED = """\
from agno.agent import Agent
from opmas.agent.offline import OfflineModel

def tool(text: str) -> str:
    return text

agent = Agent(name="rehearsal", model=OfflineModel(), tools=[tool], telemetry=False)
"""


def warm_up() -> None:
    """Run an Agno agent once, offline, then rehearse with one: what a first time makes is then shared by all forks."""
    os.environ["AGNO_TELEMETRY"] = "false"
    from agno.agent import Agent as AgnosAgent  # noqa: PLC0415

    from opmas.agent.offline import OfflineModel  # noqa: PLC0415
    from opmas.agent.rehearsal import rehearse  # noqa: PLC0415

    agent = AgnosAgent(model=OfflineModel(), telemetry=False)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_run(agent))
    finally:
        loop.close()
    rehearse(_REHEARSED, "agno")


async def _run(agent: Any) -> None:
    running = agent.arun("warm up")
    await (running if inspect.isawaitable(running) else anext(running))


class AgnoAgent(Agent):
    """An agent whose work is an Agno object's; it describes itself by what Agno knows of it."""

    def __init__(self, work: Any) -> None:
        if isinstance(work, type) or not callable(getattr(work, "arun", None)):
            raise PackageInvalid(
                f"the entrypoint is of type {type(work).__name__}, which Agno cannot run",
                "With `runtime: agno` it names an Agno Agent, Team or Workflow: agent = Agent(...).",
            )
        self.work = work

    def describe(self) -> dict[str, JsonValue]:
        """Return kind, description, model and tools."""
        model = getattr(self.work, "model", None)
        return {
            "kind": type(self.work).__name__.lower(),
            "description": _text(getattr(self.work, "description", None)),
            "model": {"id": _text(getattr(model, "id", None)), "provider": _text(getattr(model, "provider", None))}
            if model is not None
            else None,
            "tools": [*_tool_names(getattr(self.work, "tools", None))],
        }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _tool_names(tools: object) -> list[str]:
    """Name the tools: functions, Agno functions, and every function of a toolkit; a factory of tools names none."""
    if not isinstance(tools, list | tuple):
        return []
    names: list[str] = []
    for tool in tools:
        functions = getattr(tool, "functions", None)
        if isinstance(functions, dict) and functions:
            names += [str(name) for name in functions]
        else:
            names.append(str(getattr(tool, "name", None) or getattr(tool, "__name__", type(tool).__name__)))
    return names
