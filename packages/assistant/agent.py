"""An Agno agent: `agent` below is all there is to it, OPMAS runs it.

Without a provider it answers offline, always the same: to try things out, and to test them. The config's `model` gives
it a real one; what is missing for that is said at start, not at the first question.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agno.agent import Agent
from arithmetic import calculate
from notes import delete_notes, list_notes, take_note

from opmas.agent.models import resolve


def config() -> dict[str, Any]:
    """Read the config that the manager wrote for this agent; by hand, without a manager, there is none."""
    path = os.environ.get("OPMAS_CONFIG")
    return dict(json.loads(Path(path).read_text())["config"]) if path else {}


def tell_time(timezone: str = "UTC") -> str:
    """Tell the date and time in a timezone such as Europe/Lisbon."""
    try:
        return datetime.now(ZoneInfo(timezone)).strftime("%A %d %B %Y, %H:%M %Z")
    except (ZoneInfoNotFoundError, ValueError):
        return f"There is no timezone {timezone!r}; try UTC or Europe/Lisbon."


def build(settings: dict[str, Any]) -> Agent:
    """Make the assistant as the config says."""
    return Agent(
        id="assistant",
        name="Assistant",
        description="Answers in sentences; tells the time, does sums and keeps notes",
        model=resolve(settings.get("model", "")),
        instructions=settings.get("instructions"),
        tools=[tell_time, calculate, take_note, list_notes, delete_notes],
        telemetry=False,
    )


agent = build(config())
