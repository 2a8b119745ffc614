"""The five statuses the world sees. The manager's finer phases never leave it."""

from enum import StrEnum


class AgentStatus(StrEnum):
    """What an agent or one of its instances is, to everyone outside the manager."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"
    INACTIVE = "inactive"


class Desired(StrEnum):
    """What an operator wants of an agent; the manager makes it so."""

    RUNNING = "running"
    STOPPED = "stopped"
