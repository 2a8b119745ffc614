"""The nested parts of `agent.yaml` and their defaults, from restart to watch.

What they mean while an agent runs is the manager's affair; the fields that belong together at the top are in `model`.
"""

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from opmas.wire.manifest.config import config_problems, schema_problem
from opmas.wire.manifest.permissions import SubjectPattern
from opmas.wire.manifest.quantities import Duration, PositiveDuration, Size, whole


class Section(BaseModel):
    """A mapping in `agent.yaml`: an unknown key is an error, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Runtime(StrEnum):
    """How an instance comes to life: forked from a warm interpreter (python, agno) or executed."""

    PYTHON = "python"
    AGNO = "agno"
    EXEC = "exec"


class RestartCondition(StrEnum):
    """After which ends an instance is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class OnHang(StrEnum):
    """What becomes of an instance that has been inactive for as long again."""

    RESTART = "restart"
    IGNORE = "ignore"


class DependencyCondition(StrEnum):
    """What another agent must have reached before this one starts."""

    STARTED = "started"
    HEALTHY = "healthy"


class Restart(Section):
    """When a process that ended is started again, and when the manager gives up."""

    condition: RestartCondition = RestartCondition.ON_FAILURE
    """always, on-failure or never."""
    max_attempts: Annotated[int, whole(1, 1000)] = 5
    """Starts within `window`, without a minute of health, after which the agent is an error."""
    window: PositiveDuration = 600.0
    """The time in which `max_attempts` are counted."""
    delay: Duration = 1.0
    """The first wait; each further one is twice as long."""
    max_delay: Duration = 60.0
    """The longest wait."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"condition": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _delays_in_order(self) -> "Restart":
        if self.max_delay < self.delay:
            raise contradiction("restart.max_delay", "must not be shorter than delay")
        return self


class Heartbeat(Section):
    """How the manager knows that an instance lives: by its messages, or (`heartbeat: process`) by its process alone."""

    process: StrictBool = False
    """The program speaks no NATS: it is as alive as its process."""
    interval: PositiveDuration = 5.0
    """How often the instance says that it lives."""
    timeout: PositiveDuration = 60.0
    """The silence after which it is inactive."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"process": True} if value == "process" else value

    @model_validator(mode="after")
    def _timeout_spans_an_interval(self) -> "Heartbeat":
        if self.process and self.model_fields_set & {"interval", "timeout"}:
            raise contradiction("heartbeat", "has no interval or timeout when it is 'process': keep one or the other")
        if self.timeout <= self.interval:
            raise contradiction("heartbeat.timeout", f"must be longer than interval ({self.interval:g}s)")
        return self


class Limits(Section):
    """Bounds the kernel puts on every process of an instance (rlimits)."""

    nofile: Annotated[int, whole(16, 1_048_576)] | None = None
    """Open files."""
    nproc: Annotated[int, whole(1, 4_194_304)] | None = None
    """Processes of the user; the kernel ignores it for root."""
    memory: Size | None = None
    """Address space."""
    file_size: Size | None = None
    """The largest file it may write."""
    cpu_time: Annotated[PositiveDuration, Field(ge=1)] | None = None
    """Seconds of CPU, after which it is killed."""


class Resources(Section):
    """What an instance may use."""

    limits: Limits = Limits()


class Logging(Section):
    """How much of an instance's output is kept."""

    max_size: Size = 10_000_000
    """A log file is rotated when it has grown to this."""
    max_files: Annotated[int, whole(1, 100)] = 5
    """How many files are kept."""


class Subjects(Section):
    """NATS subjects beyond the agent's own."""

    publish: tuple[SubjectPattern, ...] = ()
    subscribe: tuple[SubjectPattern, ...] = ()


class Permissions(Section):
    """What the instance's credentials allow besides the agent's own subjects."""

    subjects: Subjects = Subjects()


class AccessSpec(Section):
    """Who may see and use the agent, until an operator says otherwise; an empty list means anybody."""

    workspaces: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    roles: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Skill(Section):
    """What an agent can do for a caller, as in an A2A agent card."""

    id: str = Field(min_length=1)
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


class ConfigSpec(Section):
    """The agent's own settings: a JSON Schema for them and their defaults."""

    json_schema: dict[str, JsonValue] = Field(default_factory=dict, alias="schema")
    defaults: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _defaults_satisfy_schema(self) -> "ConfigSpec":
        if problem := schema_problem(self.json_schema):
            raise contradiction("config.schema", problem)
        if problems := config_problems(self.json_schema, self.defaults):
            raise contradiction("config.defaults", "do not satisfy the schema: " + "; ".join(problems))
        return self


class Watch(Section):
    """Which files of the package restart its instances when they change."""

    paths: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Patterns as `*.py` or `prompts`, seen from the package; none means every file."""
    ignore: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Patterns of files that restart nothing."""
    debounce: Duration = 1.0
    """How long nothing may have changed before they are restarted."""

    def covers(self, path: str) -> bool:
        """Say whether a change of the file at `path`, seen from the package, is one to restart for."""
        return _matches(path, self.paths or ("*",)) and not _matches(path, self.ignore)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Match as .gitignore does: a name matches in every folder, a path from the package on, a folder all in it."""
    parts = path.split("/")
    starts = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for pattern in patterns:
        is_name = "/" not in pattern.rstrip("/")
        plain = pattern.removeprefix("./").strip("/").replace("**/", "*")
        if any(fnmatchcase(each, plain) for each in (parts if is_name else starts)):
            return True
    return False


def _watch(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return {"paths": value} if isinstance(value, list | tuple) else value


WatchSpec = Annotated[
    Watch | None, BeforeValidator(_watch, json_schema_input_type=StrictBool | list[str] | Watch | None)
]


class Dependency(Section):
    """One agent that must be there first."""

    condition: DependencyCondition = DependencyCondition.STARTED


def contradiction(path: str, words: str) -> PydanticCustomError:
    """Report fields that are right alone and wrong together, at the dotted `path` of the one to change."""
    return PydanticCustomError("contradiction", "{words}", {"at": path, "words": words})


def _dependencies(value: object) -> object:
    if isinstance(value, list | tuple):
        return {str(name): {} for name in value}
    if isinstance(value, dict):
        return {name: {} if condition is None else condition for name, condition in value.items()}
    raise ValueError(f"must be a list of agents, or a mapping like 'db: {{condition: healthy}}', got {value!r}")


Dependencies = Annotated[
    dict[str, Dependency],
    BeforeValidator(_dependencies, json_schema_input_type=dict[str, Dependency | None] | list[str]),
]
