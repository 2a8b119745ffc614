"""An Agno team: a leader who gives a question to two members, and answers from what they say.

`team` below is all there is to it, OPMAS runs it like any agent. Offline, each of the three does by rote what a model
would decide to do: the leader passes the question on to both, the researcher looks it up, the reviewer says it again.
"""

import json
import os
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.models.base import Model
from agno.team import Team
from agno.team.mode import TeamMode
from shelf import look_up

from opmas.agent.models import OFFLINE, resolve
from opmas.agent.offline import OfflineModel


def config() -> dict[str, Any]:
    """Read the config that the manager wrote for this agent; by hand, without a manager, there is none."""
    path = os.environ.get("OPMAS_CONFIG")
    return dict(json.loads(Path(path).read_text())["config"]) if path else {}


def build(settings: dict[str, Any]) -> Team:
    """Make the team as the config says."""
    name = settings.get("model", OFFLINE)

    def model(prefix: str, by_rote: str = "") -> Model:
        return OfflineModel(prefix=prefix, opening=by_rote) if name == OFFLINE else resolve(name)

    researcher = Agent(
        id="researcher",
        name="Researcher",
        role="Gathers facts",
        instructions="Look the question up on the shelf and report what stands there, no more.",
        model=model("\nThe shelf says: ", 'call look_up {"question": $said}'),
        tools=[look_up],
        telemetry=False,
    )
    reviewer = Agent(
        id="reviewer",
        name="Reviewer",
        role="Weighs facts",
        instructions="Say in one sentence what would have to be known to answer the question for certain.",
        model=model("\nStill to be settled: "),
        telemetry=False,
    )
    return Team(
        id="research-team",
        name="Research team",
        description="Gathers facts and weighs them",
        members=[researcher, reviewer],
        mode=TeamMode.broadcast,
        model=model("What the team found:\n", 'call delegate_task_to_members {"task": $said}'),
        instructions="Answer from what the members report, and say how far it carries.",
        telemetry=False,
    )


team = build(config())
