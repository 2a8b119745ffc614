"""`agent.yaml` as a value: every top-level field, its default, and which fields exclude each other.

Reading text into it is `parsing`; files named in it are looked for by the manager, which has a disk.
"""

import keyword
import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StrictBool, model_validator

from opmas.wire.ids import RESERVED_IDS, is_agent_id
from opmas.wire.manifest.environment import Environment
from opmas.wire.manifest.quantities import Duration, PositiveDuration, whole
from opmas.wire.manifest.runs import AgnoStore, ModelName, RunLimitsSpec
from opmas.wire.manifest.sections import (
    AccessSpec,
    ConfigSpec,
    Dependencies,
    Heartbeat,
    Logging,
    OnHang,
    Permissions,
    Resources,
    Restart,
    Runtime,
    Section,
    Skill,
    WatchSpec,
    contradiction,
)
from opmas.wire.manifest.venv import Isolation, Requirements, RequirementSpec
from opmas.wire.runs import OnLost, RunLimits, RunSpec, SessionRuns

StopSignal = Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"]

DEFAULT_ATTRIBUTE = "agent"
"""What is looked up in an entrypoint that names no attribute: `agent.py` means `agent.py:agent`."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def _agent_id(name: str) -> str:
    if name in RESERVED_IDS:
        raise ValueError(f"may not be {name!r}, which OPMAS uses itself: choose another")
    if not is_agent_id(name):
        near = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63]
        hint = f" (for instance {near!r})" if is_agent_id(near) else ""
        raise ValueError(
            f"must be 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit, got {name!r}{hint}"
        )
    return name


def _entrypoint(value: str) -> str:
    target, _, attribute = value.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    is_module = _DOTTED.fullmatch(target) is not None and not any(map(keyword.iskeyword, target.split(".")))
    if not (target.endswith(".py") or is_module) or not _DOTTED.fullmatch(attribute):
        raise ValueError(f"must be file.py:Name or package.module:Name, got {value!r}")
    return f"{target}:{attribute}"


def _words(value: object) -> object:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as reason:
            raise ValueError(f"cannot be split into words ({str(reason).lower()}), got {value!r}") from None
    if isinstance(value, list) and (not value or not value[0]):
        raise ValueError("must begin with a program, got nothing")
    return value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


TextList = tuple[str, ...]
ModuleName = Annotated[str, Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?$")]


class Manifest(Section):
    """What a package says of its agent. Durations are seconds, sizes bytes."""

    name: Annotated[str, AfterValidator(_agent_id)]
    """The agent's id, as in `agent.{name}.status`."""
    version: str = "0.0.0"
    description: str = ""
    type: str = "agent"
    """A word that callers group agents by; passed on as AGENT_TYPE."""
    labels: dict[str, str] = Field(default_factory=dict)
    runtime: Runtime = Runtime.PYTHON
    """python (the default with `entrypoint`), agno, or exec (the default with `command`)."""
    entrypoint: Annotated[str, AfterValidator(_entrypoint)] | None = None
    """`file.py:Name` or `package.module:Name`; without `:Name` it is `agent`."""
    command: Annotated[TextList, BeforeValidator(_words, json_schema_input_type=str | list[str])] = ()
    """The program to execute and its arguments: a list, or words as a shell splits them."""
    preload: tuple[ModuleName, ...] = ()
    """Modules imported once, before instances are forked."""
    working_dir: str = "."
    """Where an instance runs, seen from the package."""
    environment: Environment = Field(default_factory=dict)
    """Variables for an instance; a name without a value passes the manager's own on."""
    env_file: Annotated[TextList, BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])] = ()
    """Files of `NAME=value` lines; `environment` stands above them."""
    config: ConfigSpec = ConfigSpec()
    autostart: StrictBool = True
    replicas: Annotated[int, whole(1, 1000)] = 1
    depends_on: Dependencies = Field(default_factory=dict)
    """Agents that start before this one and stop after it."""
    restart: Restart = Restart()
    success_exit_codes: tuple[Annotated[int, whole(0, 255)], ...] = (0,)
    start_timeout: PositiveDuration = 30.0
    """How long an instance may take to its first heartbeat."""
    stop_signal: StopSignal = "SIGTERM"
    stop_grace_period: Duration = 5.0
    """How long after `stop_signal` it is killed."""
    heartbeat: Heartbeat = Heartbeat()
    on_hang: OnHang = OnHang.RESTART
    max_runs: Annotated[int, whole(1, 1000)] = 8
    """Runs at a time, of each instance."""
    on_lost: OnLost = OnLost.NEVER_STARTED
    """When an instance is lost: never_started gives another one only what had not started yet, the rest is
    `interrupted`; retry calls the handler again, three times in all: for handlers that may be called twice."""
    session_runs: SessionRuns = SessionRuns.ENQUEUE
    """A run whose session has another one under way: enqueue it, reject it, or interrupt the other."""
    run_limits: RunLimitsSpec = RunLimitsSpec()
    models: tuple[ModelName, ...] = ()
    """Names of models it may use, each defined under `models` in config/agent_manager.yaml."""
    agno_store: AgnoStore = AgnoStore.NONE
    """Where an Agno agent that has no store keeps its sessions: none, or sqlite, a file of its own."""
    resources: Resources = Resources()
    logging: Logging = Logging()
    watch: WatchSpec = None
    """Restart instances when files of the package change: `true`, a list of patterns, or a mapping."""
    isolation: Isolation = Isolation.NONE
    """none: the packages OPMAS is installed with; venv: besides and above them, `dependencies` of its own."""
    dependencies: Requirements = RequirementSpec()
    """What its venv holds: requirements as pip knows them, or `{file: requirements.txt}`."""
    capabilities: TextList = ()
    skills: tuple[Skill, ...] = ()
    permissions: Permissions = Permissions()
    access: AccessSpec = AccessSpec()
    extensions: dict[str, JsonValue] = Field(default_factory=dict, alias="x-*")
    """Every `x-…` key: yours, OPMAS only keeps it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields = {key: item for key, item in value.items() if not str(key).startswith("x-") or key == "x-*"}
        extensions = {key: item for key, item in value.items() if key not in fields}
        if extensions:
            fields["x-*"] = extensions
        if "runtime" not in fields and "command" in fields:
            fields["runtime"] = Runtime.EXEC
        if fields.get("runtime") == Runtime.AGNO and not fields.keys() & {"entrypoint", "command"}:
            fields["entrypoint"] = "agent.py"
        return fields

    @model_validator(mode="after")
    def _says_what_to_run(self) -> "Manifest":
        if self.entrypoint and self.command:
            raise contradiction("command", "and entrypoint exclude each other: keep the one that starts the agent")
        if self.runtime is Runtime.EXEC and not self.command:
            raise contradiction("runtime", "exec needs a command: add one, or use runtime: python with an entrypoint")
        if self.runtime is not Runtime.EXEC and self.command:
            raise contradiction(
                "runtime", f"{self.runtime.value} takes an entrypoint, not a command: use runtime: exec for a command"
            )
        if not self.entrypoint and not self.command:
            raise contradiction("", "needs an entrypoint (entrypoint: agent.py:Name) or a command (command: ./program)")
        if self.preload and self.runtime is Runtime.EXEC:
            raise contradiction("preload", "has no effect on a command: remove it")
        if self.agno_store is not AgnoStore.NONE and self.runtime is not Runtime.AGNO:
            raise contradiction("agno_store", "has an effect with runtime: agno only: remove it, or use that runtime")
        if self.isolation is Isolation.NONE and "dependencies" in self.model_fields_set:
            raise contradiction("dependencies", "are installed into a venv only: add isolation: venv, or remove them")
        if self.name in self.depends_on:
            raise contradiction(f"depends_on.{self.name}", "is the agent itself: remove it")
        return self

    def run_spec(self) -> RunSpec:
        """Say how the agent takes runs, for whoever accepts them."""
        limits = self.run_limits
        return RunSpec(
            max_runs=self.max_runs,
            queue=limits.queue,
            on_lost=self.on_lost,
            session_runs=self.session_runs,
            start_within_s=limits.start_within,
            confirm_within_s=limits.confirm_within,
            limits=RunLimits(wall_time_s=limits.wall_time, tokens=limits.tokens, tool_calls=limits.tool_calls),
        )
