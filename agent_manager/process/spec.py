"""What a shim must know to start one instance, and how that travels to it.

Standard library only: this is imported by the template, whose every import is paid for by every instance.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Self

SLOT_VARIABLE = "OPMAS_SLOT"  # in the environment of each instance: exec'd strays are known by it


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of an instance; None leaves what the daemon has. Core dumps are always off."""

    nofile: int | None = None
    nproc: int | None = None
    address_space: int | None = None
    file_size: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One start of one instance. Exactly one of `entry` (forked) and `argv` (exec'd) is given; paths are absolute."""

    agent_id: str
    ordinal: int
    slot_dir: str
    start_count: int
    cwd: str
    env: dict[str, str] = field(repr=False)  # complete, merged with nothing but OPMAS_SLOT; it holds secrets
    entry: tuple[str, ...] = ()  # (module, callable): called without arguments in the fork, returns the exit code
    argv: tuple[str, ...] = ()
    stop_signal: int = 15
    stop_grace_s: float = 5.0
    limits: Limits = field(default_factory=Limits)
    uid: int | None = None
    gid: int | None = None
    log_max_bytes: int = 10_000_000
    log_max_files: int = 5
    private_dir: str | None = None  # closed to the instance, but for its own slot (read), `readable` and `writable`
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.entry) is bool(self.argv):
            raise ValueError(f"cannot describe {self.instance_id}: give either entry or argv")
        if self.entry and len(self.entry) != 2:
            raise ValueError(f"cannot describe {self.instance_id}: entry is (module, callable), not {self.entry!r}")

        if not (os.path.isabs(self.slot_dir) and os.path.isabs(self.cwd)):
            raise ValueError(f"cannot describe {self.instance_id}: slot_dir and cwd must be absolute paths")

    @property
    def instance_id(self) -> str:
        """Name the instance, e.g. `echo-0`."""
        return f"{self.agent_id}-{self.ordinal}"

    @property
    def environment(self) -> dict[str, str]:
        """What the instance finds in its environment."""
        return self.env | {SLOT_VARIABLE: os.path.realpath(self.slot_dir)}

    def to_json(self) -> str:
        """Write it down for the shim."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("entry", "argv", "readable", "writable"):
            fields[name] = tuple(fields[name])
        fields["limits"] = Limits(**fields["limits"])
        return cls(**fields)
