"""What `agent.yaml` may say, and what it means when it says nothing."""

import pytest

from opmas.wire.errors import PackageInvalid
from opmas.wire.manifest import (
    AgnoStore,
    DependencyCondition,
    Manifest,
    OnHang,
    RestartCondition,
    Runtime,
    parse_manifest,
)
from opmas.wire.runs import OnLost, RunLimits, RunSpec, SessionRuns

MINIMAL = "name: echo\nentrypoint: agent.py\n"


def parse(text: str) -> Manifest:
    return parse_manifest(text, "packages/echo/agent.yaml")


def with_fields(text: str) -> Manifest:
    return parse(MINIMAL + text)


def problem(text: str) -> str:
    with pytest.raises(PackageInvalid) as caught:
        parse(text)
    return caught.value.message


def test_a_name_and_an_entrypoint_are_enough_and_the_rest_has_the_documented_defaults() -> None:
    manifest = parse(MINIMAL)

    assert (manifest.name, manifest.entrypoint, manifest.runtime) == ("echo", "agent.py:agent", Runtime.PYTHON)
    assert (manifest.autostart, manifest.replicas, manifest.start_timeout) == (True, 1, 30)
    assert (manifest.heartbeat.interval, manifest.heartbeat.timeout, manifest.heartbeat.process) == (5, 60, False)
    assert (manifest.restart.condition, manifest.restart.max_attempts) == (RestartCondition.ON_FAILURE, 5)
    assert (manifest.restart.window, manifest.restart.delay, manifest.restart.max_delay) == (600, 1, 60)
    assert (manifest.stop_signal, manifest.stop_grace_period) == ("SIGTERM", 5)
    assert manifest.success_exit_codes == (0,)
    assert manifest.on_hang is OnHang.RESTART
    assert (manifest.logging.max_size, manifest.logging.max_files) == (10_000_000, 5)


def test_every_documented_field_is_accepted() -> None:
    manifest = parse(
        """\
name: echo
version: 1.10
description: says it again
type: demo
labels: {team: on}
runtime: python
entrypoint: my_agent.main:Echo
preload: [numpy, "warm.up:once"]
working_dir: work
environment: {PORT: 08080, EMPTY: "", HOME: }
env_file: .env
config: {schema: {type: object, properties: {n: {type: integer}}}, defaults: {n: 3}}
autostart: false
replicas: 3
depends_on: {db: {condition: healthy}, cache: }
restart: {condition: always, max_attempts: 2, window: 1m, delay: 500ms, max_delay: 5s}
success_exit_codes: [0, 3]
start_timeout: 1m30s
stop_signal: SIGINT
stop_grace_period: 0
heartbeat: {interval: 1s, timeout: 3}
on_hang: ignore
resources: {limits: {nofile: 512, nproc: 100, memory: 1GiB, file_size: 10MB, cpu_time: 1h}}
logging: {max_size: 512Ki, max_files: 2}
capabilities: [echo]
skills: [{id: echo, name: Echo, description: d, tags: [a], examples: [b]}]
permissions: {subjects: {publish: [findings.security], subscribe: [logs.>]}}
x-owner: {team: blue}
"""
    )

    assert manifest.version == "1.10"
    assert manifest.labels == {"team": "on"}
    assert manifest.environment == {"PORT": "08080", "EMPTY": "", "HOME": None}
    assert manifest.env_file == (".env",)
    assert manifest.depends_on["db"].condition is DependencyCondition.HEALTHY
    assert manifest.depends_on["cache"].condition is DependencyCondition.STARTED
    assert (manifest.restart.delay, manifest.restart.window) == (0.5, 60)
    assert manifest.start_timeout == 90
    limits = manifest.resources.limits
    assert (limits.memory, limits.file_size, limits.cpu_time) == (2**30, 10_000_000, 3600)
    assert manifest.logging.max_size == 512 * 1024
    assert manifest.permissions.subjects.subscribe == ("logs.>",)
    assert manifest.extensions == {"x-owner": {"team": "blue"}}


def test_the_short_forms_mean_what_the_long_ones_do() -> None:
    manifest = parse(
        "name: echo\ncommand: sh -c 'echo \"a b\"'\nheartbeat: process\nrestart: never\n"
        "depends_on: [db]\nenvironment: [A=1=2, HOME, B=]\n"
    )

    assert manifest.runtime is Runtime.EXEC
    assert manifest.command == ("sh", "-c", 'echo "a b"')
    assert manifest.heartbeat.process
    assert manifest.restart.condition is RestartCondition.NEVER
    assert manifest.depends_on["db"].condition is DependencyCondition.STARTED
    assert manifest.environment == {"A": "1=2", "HOME": None, "B": ""}


def test_what_a_manifest_says_of_runs_becomes_what_the_api_is_told() -> None:
    said = with_fields(
        "max_runs: 2\non_lost: retry\nsession_runs: reject\n"
        "run_limits: {queue: 5, start_within: 1m, confirm_within: 1h, wall_time: 30s, tokens: 9000, tool_calls: none}\n"
    )

    assert parse(MINIMAL).run_spec() == RunSpec()
    assert said.run_spec() == RunSpec(
        max_runs=2,
        queue=5,
        on_lost=OnLost.RETRY,
        session_runs=SessionRuns.REJECT,
        start_within_s=60,
        confirm_within_s=3600,
        limits=RunLimits(wall_time_s=30, tokens=9000),
    )


def test_an_agno_agent_may_have_models_and_a_store() -> None:
    manifest = parse("name: echo\nruntime: agno\nmodels: [fast, default]\nagno_store: sqlite\n")

    assert (manifest.models, manifest.agno_store) == (("fast", "default"), AgnoStore.SQLITE)


def test_an_agno_agent_needs_no_entrypoint() -> None:
    assert parse("name: echo\nruntime: agno\n").entrypoint == "agent.py:agent"


def test_anchors_and_merge_keys_work_as_in_compose() -> None:
    manifest = with_fields(
        "x-limits: &l {nofile: 64, nproc: 5}\n"
        "x-more: &m {<<: *l, nproc: 6}\n"
        "resources: {limits: {<<: [*m, *l], nofile: 99}}\n"
    )

    assert (manifest.resources.limits.nofile, manifest.resources.limits.nproc) == (99, 6)


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(MINIMAL).replicas = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("replicas: two", "3:11: replicas must be a whole number ≥ 1, got 'two'"),
        ("replicas: true", "3:11: replicas must be a whole number ≥ 1, got True"),
        ("replicas: 100000", "3:11: replicas must be a whole number ≤ 1000, got 100000"),
        ("autostart: 1", "3:12: autostart must be true or false, got 1"),
        ("replicsa: 2", "3:1: unknown key 'replicsa' (did you mean 'replicas'?)"),
        ("extensions: {}", "3:1: unknown key 'extensions'"),
        ("restart: {dely: 1s}", "3:11: unknown key 'dely' in restart (did you mean 'delay'?)"),
        ("restart: sometimes", "3:10: restart.condition must be 'always', 'on-failure' or 'never', got 'sometimes'"),
        ("restart: {delay: 5s, max_delay: 1s}", "3:33: restart.max_delay must not be shorter than delay"),
        ("restart:\n  - always", "4:3: restart must be a mapping (key: value), got a list"),
        ("start_timeout: 5 sec", "3:16: start_timeout must be a duration like 5s, 500ms, 2m or 1h30m, up to 366d, got"),
        ("start_timeout: .nan", "3:16: start_timeout must be a duration"),
        ("start_timeout: 0", "3:16: start_timeout must be longer than zero, got 0"),
        ("logging: {max_size: 10m}", "3:21: logging.max_size must be a size like 10MB, 512Ki or 1GiB, got '10m'"),
        ("heartbeat: {interval: 10s, timeout: 5s}", "3:37: heartbeat.timeout must be longer than interval (10s)"),
        ("heartbeat: {process: true, interval: 1s}", "3:12: heartbeat has no interval or timeout when it is 'process'"),
        ("heartbeat: 5", "3:12: heartbeat must be a mapping (key: value), got 5"),
        ("stop_signal: SIGTREM", "3:14: stop_signal must be 'SIGTERM', "),
        ("isolation: strict", "3:12: isolation must be 'none' or 'venv', got 'strict'"),
        ("dependencies: [requests]", "3:15: dependencies are installed into a venv only: add isolation: venv"),
        ("isolation: venv\ndependencies: [-r x]", "4:15: dependencies.packages[0] must be a requirement such as"),
        ("isolation: venv\ndependencies: {file: a, packages: [b]}", "4:22: dependencies.file and packages exclude"),
        ("watch: 5", "3:8: watch must be a mapping (key: value), got 5"),
        ("watch: {pats: [a]}", "3:9: unknown key 'pats' in watch (did you mean 'paths'?)"),
        ("resources: {limits: {cpus: 2}}", "3:22: 'resources.limits.cpus' is not supported yet: remove it"),
        ("resources: {reservations: {}}", "3:13: 'resources.reservations' is not supported yet: remove it"),
        ("max_runs: 0", "3:11: max_runs must be a whole number ≥ 1, got 0"),
        ("max_runs: 1001", "3:11: max_runs must be a whole number ≤ 1000, got 1001"),
        ("on_lost: rerty", "3:10: on_lost must be 'never_started' or 'retry', got 'rerty' (did you mean 'retry'?)"),
        ("session_runs: queue", "3:15: session_runs must be 'enqueue', 'reject' or 'interrupt', got 'queue'"),
        ("run_limits: {wall_tme: 1m}", "3:14: unknown key 'wall_tme' in run_limits (did you mean 'wall_time'?)"),
        ("run_limits: {tokens: 0}", "3:22: run_limits.tokens must be a whole number ≥ 1, got 0"),
        ("run_limits: {tool_calls: few}", "3:26: run_limits.tool_calls must be a whole number ≥ 1, got 'few'"),
        ("models: fast", "3:9: models must be a list, got 'fast'"),
        ("agno_store: sqlite", "3:13: agno_store has an effect with runtime: agno only: remove it, or use that"),
        ("resources: {limits: {cpu_time: 1ms}}", "3:32: resources.limits.cpu_time must be at least 1, got "),
        ("capabilities: echo", "3:15: capabilities must be a list, got 'echo'"),
        ("skills: [{name: Echo}]", "3:10: skills[0].id is missing: add it"),
        ("skills: [{id: a, tgas: []}]", "3:18: unknown key 'tgas' in skills[0] (did you mean 'tags'?)"),
        ("depends_on: 5", "3:13: depends_on must be a list of agents, or a mapping"),
        ("depends_on: [echo]", "3:13: depends_on.echo is the agent itself: remove it"),
        ("depends_on: {db: {condition: heathy}}", "(did you mean 'healthy'?)"),
        ("command: ./run", "3:10: command and entrypoint exclude each other"),
        ("runtime: exec", "3:10: runtime exec needs a command"),
        ("runtime: pyhton", "(did you mean 'python'?)"),
        ("environment: {A B: 1}", "3:14: environment has a name that no program can read: 'A B'"),
        ("environment: {AGENT_ID: x}", "3:14: environment may not set AGENT_ID, which OPMAS sets itself: remove it"),
        ("environment: {A: [1]}", "3:18: environment.A must be text, got a list"),
        ("config: {schema: {type: objekt}}", "3:18: config.schema is no JSON Schema: schema.type "),
        (
            "config: {schema: {properties: {n: {type: integer}}}, defaults: {n: x}}",
            "3:64: config.defaults do not satisfy the schema: config.n: 'x' is not of type 'integer'",
        ),
        ("config: {schema: {$ref: 'http://127.0.0.1:1/'}}", "cannot follow the reference 'http://127.0.0.1:1/'"),
        ("permissions: {subjects: {publish: [agent.b.run]}}", "3:36: permissions.subjects.publish[0] may not ask for"),
    ],
)
def test_a_wrong_field_is_named_with_its_place_and_what_to_do(line: str, words: str) -> None:
    message = problem(MINIMAL + line)

    assert message.startswith("packages/echo/agent.yaml:")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("entrypoint: agent.py", "name is missing: add it"),
        ("name: echo", "needs an entrypoint (entrypoint: agent.py:Name) or a command"),
        ("name: echo\nruntime: agno\ncommand: ./x", "2:10: runtime agno takes an entrypoint, not a command"),
        ("name: echo\ncommand: []", "2:10: command must begin with a program"),
        ('name: echo\ncommand: "./x \'y"', "2:10: command cannot be split into words (no closing quotation)"),
        ("name: echo\ncommand: ./x\npreload: [numpy]", "3:10: preload has no effect on a command: remove it"),
        ("name: echo\nentrypoint: my agent", "2:13: entrypoint must be file.py:Name or package.module:Name"),
        ("name: My Agent\nentrypoint: a.py", "(for instance 'my-agent')"),
        ("name: manager\nentrypoint: a.py", "1:7: name may not be 'manager', which OPMAS uses itself"),
        ("name: '*'\nentrypoint: a.py", "1:7: name must be 1 to 63 of a-z"),
        ("name: 'echo\n\n'\nentrypoint: a.py", "1:7: name must be 1 to 63 of a-z"),
    ],
)
def test_a_manifest_that_starts_nothing_says_what_it_needs(text: str, words: str) -> None:
    assert words in problem(text)


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    lines = problem("nmae: echo\nentrypoint: agent.py\nreplicas: two\nrestart: {delay: x}\n").splitlines()

    assert [line.split(": ", 1)[0].rpartition("yaml:")[2] for line in lines] == ["1:1", "1:1", "3:11", "4:18"]


@pytest.mark.parametrize(
    ("watch", "restarts", "does_not"),
    [
        (True, ["agent.py", "data/names.txt"], []),
        (["*.py"], ["agent.py", "tools/web.py"], ["README.md"]),
        (["prompts/", "./agent.py"], ["prompts/de/hello.md", "agent.py"], ["tools/agent.py", "prompts.md"]),
        (["src/**/*.txt"], ["src/a.txt", "src/b/c.txt"], ["a.txt"]),
        ({"ignore": ["test_*", "docs"]}, ["agent.py"], ["test_agent.py", "tools/test_web.py", "docs/index.md"]),
    ],
)
def test_watch_names_the_files_to_restart_for(watch: object, restarts: list[str], does_not: list[str]) -> None:
    read = Manifest.model_validate({"name": "echo", "entrypoint": "agent.py", "watch": watch}).watch

    assert read is not None
    assert [path for path in (*restarts, *does_not) if read.covers(path)] == restarts
