"""What a template for Agno agents does before it forks any: an offline run, and the whole life of an instance.

What a first time makes (imports within functions, compiled schemas, specialised bytecode) is then shared by all forks.
"""

import asyncio
import importlib
import os
import sys
from contextlib import suppress

# What OpenAI's client, which most providers' classes use, imports at its first request: 0.2 s and 4 MB in each fork.
_AT_FIRST_REQUEST = {
    "openai": (
        "anyio._backends._asyncio",
        "httpcore2",
        "openai.lib.streaming.chat",
        "openai.resources.chat.chat",
        "openai.resources.chat.completions.completions",
    ),
}

_REHEARSED = """\
from agno.agent import Agent
from opmas.agent.offline import OfflineModel

def tool(text: str) -> str:
    return text

agent = Agent(name="rehearsal", model=OfflineModel(), tools=[tool], telemetry=False)
"""


def warm_up() -> None:
    """Run a team of Agno's once, offline, whose member calls a tool; then rehearse with an agent."""
    os.environ["AGNO_TELEMETRY"] = "false"
    for module in (
        module for library, later in _AT_FIRST_REQUEST.items() if library in sys.modules for module in later
    ):
        with suppress(ImportError):  # other versions may keep it elsewhere
            importlib.import_module(module)
    from opmas.agent.rehearsal import rehearse  # noqa: PLC0415

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_run_a_team())
    finally:
        loop.close()
    rehearse(_REHEARSED, "agno")


async def _run_a_team() -> None:
    from agno.agent import Agent  # noqa: PLC0415
    from agno.team import Team  # noqa: PLC0415

    from opmas.agent.offline import OfflineModel  # noqa: PLC0415

    async def say(text: str) -> str:
        return text

    leader = OfflineModel(opening='call delegate_task_to_member {"member_id": "member", "task": $said}')
    member = Agent(id="member", model=OfflineModel(), tools=[say], telemetry=False)
    team = Team(model=leader, members=[member], telemetry=False)
    async for event in team.arun('call say {"text": "warm"}', stream=True, stream_events=True):
        event.to_json()
