"""The SDK: what an agent author imports."""

from opmas.agent.author import Agent
from opmas.agent.handlers import command, on, query
from opmas.agent.message import Message

# What a template imports before it forks instances: all that the runtime needs in every agent. None of it starts a
# thread, opens a socket or makes an event loop at import.
PRELOAD: tuple[str, ...] = ("opmas.agent.runtime", "jsonschema", "referencing", "nkeys")

__all__ = ["PRELOAD", "Agent", "Message", "command", "on", "query"]
