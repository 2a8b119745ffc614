"""Identifiers and the one regex that keeps an agent inside its own subjects."""

import re
from typing import Annotated

from pydantic import StringConstraints

# A security boundary: the id becomes a subject token and a credential's name; an agent called `*` would receive every
# agent's commands.
AGENT_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

# Tokens that stand in an id's place in `agent.{id}.*` or would read as a verb on the command line.
RESERVED_IDS = frozenset({"manager", "status", "metrics"})

_AGENT_ID = re.compile(AGENT_ID_PATTERN.removesuffix("$") + r"\Z")

AgentId = Annotated[str, StringConstraints(pattern=AGENT_ID_PATTERN)]


def is_agent_id(text: str) -> bool:
    """Say whether `text` may name an agent."""
    return _AGENT_ID.match(text) is not None and text not in RESERVED_IDS


def instance_id(agent_id: str, ordinal: int) -> str:
    """Name one instance: `echo-0` is the first of agent `echo`."""
    return f"{agent_id}-{ordinal}"
