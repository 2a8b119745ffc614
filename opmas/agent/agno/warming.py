"""What a template for Agno agents does before it forks any: an offline run, and the whole life of an instance.

What a first time makes (imports within functions, compiled schemas, specialised bytecode) is then shared by all forks.
"""

import asyncio
import inspect
import os
from typing import Any

_REHEARSED = """\
from agno.agent import Agent
from opmas.agent.offline import OfflineModel

def tool(text: str) -> str:
    return text

agent = Agent(name="rehearsal", model=OfflineModel(), tools=[tool], telemetry=False)
"""


def warm_up() -> None:
    """Run an Agno agent once, offline, then rehearse with one."""
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
