"""What may go wrong when an instance is started, for the manager to act on.

AgentFailed
└── SpawnFailed       no shim, or a shim that could not set up its slot
    └── SlotBusy      another copy, or what it left behind, holds the slot
PackageInvalid
└── PreloadRefused    a preload cannot be part of a template: exec the agent instead
"""

from opmas.wire.errors import AgentFailed, PackageInvalid


class SpawnFailed(AgentFailed):
    """The instance was not started; if the template died meanwhile, the slot says whether one lives all the same."""


class SlotBusy(SpawnFailed):
    """The slot's lock is held by the processes in `holders`: a living instance to adopt, or strays to sweep."""

    def __init__(self, instance_id: str, holders: list[int]) -> None:
        named = ", ".join(map(str, holders)) or "a process that cannot be seen"
        super().__init__(
            f"cannot start {instance_id}: its slot is held by {named}",
            "A copy is already running, or left processes behind; the manager adopts the one and ends the others.",
        )
        self.holders = holders


class PreloadRefused(PackageInvalid):
    """The preload `module` failed, or started threads, which no fork survives."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"cannot preload {module}: {reason}", "Take it out of `preload`, or let the agent be exec'd.")
        self.module = module
        self.reason = reason
