"""The SDK: what an agent author imports."""

from opmas.agent.author import Agent
from opmas.agent.handlers import command, on, query, resume, run
from opmas.agent.message import Message
from opmas.agent.runs.context import RunContext
from opmas.wire.runs import Decision

# What a template imports before it forks instances: all that the runtime needs in every agent. None of it starts a
# thread, opens a socket or makes an event loop at import.
PRELOAD: tuple[str, ...] = ("opmas.agent.runtime", "jsonschema", "referencing", "nkeys")

__all__ = ["PRELOAD", "Agent", "Decision", "Message", "RunContext", "command", "on", "query", "resume", "run"]
