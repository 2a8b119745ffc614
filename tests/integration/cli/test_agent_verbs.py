"""The verbs that make, change and take away agents, against a whole OPMAS; each test makes the agents it needs."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import OPMAS, Shell, Typed

_PATIENCE_S = 30.0

_CONFIGURED = """\
name: configured
command: [sleep, "1000"]
heartbeat: process
autostart: false
labels: {kind: configured}
config:
  defaults: {interval: 5, title: "7", limits: {depth: 2, width: 3}}
  schema:
    type: object
    properties:
      interval: {type: integer}
      title: {type: string}
      limits: {type: object, properties: {depth: {type: integer}}}
"""


def asked(typed: Typed, opmas: Shell, *words: str) -> Any:
    return json.loads(typed(opmas, *words, "--json").stdout)


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def packages(opmas: Shell) -> Path:
    return Path(opmas.env["OPMAS_PACKAGES"])


@pytest.fixture(scope="module")
def configured(opmas: Shell) -> Iterator[str]:
    """A package whose config has a schema, and its agent."""
    packages = Path(opmas.env["OPMAS_PACKAGES"])
    draft = packages / ".configured"
    draft.mkdir()
    (draft / "agent.yaml").write_text(_CONFIGURED)
    draft.rename(packages / "configured")
    until(lambda: opmas("describe", "configured").returncode == 0, "the agent of a new package")
    yield "configured"
    assert opmas("delete", "configured").returncode == 0
    shutil.rmtree(packages / "configured")


@pytest.fixture
def twins(opmas: Shell, typed: Typed) -> Iterator[tuple[str, str]]:
    """Two agents of one package, told apart by a label."""
    for name, side in (("twin-a", "left"), ("twin-b", "right")):
        words = ("register", "talker", "--id", name, "--label", "family=twins", "--label", f"side={side}")
        assert typed(opmas, *words).returncode == 0
    yield "twin-a", "twin-b"
    assert typed(opmas, "delete", "--label", "family=twins").returncode == 0


# --- many at once ---------------------------------------------------------------------------------------------------


def test_a_label_stands_for_all_agents_that_carry_it(opmas: Shell, typed: Typed, twins: tuple[str, str]) -> None:
    label = ("--label", "family=twins")

    assert typed(opmas, "start", *label).stdout == "twin-a: running\ntwin-b: running\n"
    assert typed(opmas, "wait", *label).stdout == "twin-a: running\ntwin-b: running\n"
    assert typed(opmas, "restart", *label, "--label", "side=left").stdout == "twin-a: running\n"
    until(
        lambda: len({line.split("-0 ")[0] for line in typed(opmas, "logs", *label).stdout.splitlines()}) == 2, "lines"
    )
    assert [agent["id"] for agent in asked(typed, opmas, "ls", *label)["agents"]] == list(twins)
    assert typed(opmas, "disable", *label).stdout == "twin-a: stopped\ntwin-b: stopped\n"

    refused = typed(opmas, "start", *label)
    assert refused.returncode == 6
    assert "`opmas enable twin-a`" in refused.stderr
    assert "enabled      no" in typed(opmas, "describe", "twin-a").stdout

    assert typed(opmas, "enable", *label).stdout == "twin-a: running\ntwin-b: running\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("stop", "--label", "family=none"), 3, "no agent has the label family=none"),
        (("stop", "--label", "family"), 2, "key=value"),
        (("stop", "talker", "--label", "a=b"), 2, "exclude"),
        (("delete",), 2, "no agent is named"),
        (("delete", "nobody"), 3, "no such agent"),
        (("why", "greter"), 3, "did you mean 'greeter'?"),
        (("register", "no-such-package"), 1, "no-such-package"),
        (("register", "talker", "--id", "greeter"), 6, "greeter"),
        (("register", "talker", "--id", "Bad Id"), 2, "id"),
        (("register", "talker", "--label", "family"), 2, "key=value"),
        (("describe", "broken"), 3, "unknown key 'entrypont'"),
        (("config", "get", "nobody"), 3, "no such agent"),
        (("config", "set", "greeter"), 2, "no setting"),
        (("config", "set", "greeter", "x"), 2, "KEY=VALUE"),
        (("sync", "--agent-id", "nobody"), 3, "no such agent"),
        (("audit", "ghost"), 3, "no such agent"),
        (("config",), 0, ""),
        (("confg", "get"), 2, "did you mean 'config'?"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_mistake_has_its_exit_code_and_a_hint(
    opmas: Shell, typed: Typed, words: Sequence[str], code: int, said: str
) -> None:
    ended = typed(opmas, *words)

    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


# --- waiting and why ------------------------------------------------------------------------------------------------


def test_wait_ends_at_once_when_an_agent_has_failed_for_good(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "faller", "--no-wait")

    ended = typed(opmas, "wait", "faller", "--for", "stopped", "--timeout", "600")  # would outlast the test

    assert ended.returncode == 1
    assert "failed for good: exited with code 3" in ended.stderr


def test_why_and_describe_tell_the_cause_of_a_failed_start(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "faller", "--no-wait")
    typed(opmas, "wait", "faller")

    cause = asked(typed, opmas, "why", "faller")
    told = typed(opmas, "why", "faller").stdout
    described = typed(opmas, "describe", "faller").stdout

    assert cause["code"]
    assert cause["summary"] in told
    assert "these were my last words" in told
    assert cause["summary"] in next(line for line in described.splitlines() if line.startswith("why"))


def test_why_names_who_stopped_an_agent(opmas: Shell, typed: Typed, twins: tuple[str, str]) -> None:
    typed(opmas, "start", twins[0])
    typed(opmas, "stop", twins[0])

    assert "stop" in typed(opmas, "why", twins[0]).stdout
    audited = asked(typed, opmas, "audit", twins[0])["audit"]
    assert [row["command"] for row in audited][-3:] == ["register", "start", "stop"]
    assert "family" in typed(opmas, "audit", twins[0]).stdout


# --- config ---------------------------------------------------------------------------------------------------------


def test_settings_become_what_the_schema_asks_for_and_defaults_come_back(
    opmas: Shell, typed: Typed, configured: str
) -> None:
    set_ = typed(opmas, "config", "set", configured, "interval=9", "title=8", "limits.depth=4", "more=[1]", "--json")

    view = json.loads(set_.stdout)
    assert view["given"] == {"interval": 9, "title": "8", "limits": {"depth": 4}, "more": [1]}
    assert view["config"]["limits"] == {"depth": 4, "width": 3}
    assert typed(opmas, "config", "get", configured, "limits.depth").stdout == "4\n"
    assert asked(typed, opmas, "config", "get", configured, "title") == "8"
    assert typed(opmas, "config", "get", configured, "nothing").returncode == 3

    refused = typed(opmas, "config", "set", configured, "interval=often")
    assert refused.returncode == 2
    assert "'often' is not of type 'integer'" in refused.stderr

    shown = typed(opmas, "config", "unset", configured, "interval", "limits.depth", "limits").stdout
    assert [line.split() for line in shown.splitlines()][1:3] == [
        ["interval", "5", "package"],
        ["title", "8", "operator"],
    ]
    assert typed(opmas, "config", "unset", configured, "interval").returncode == 1


# --- sync -----------------------------------------------------------------------------------------------------------


def test_sync_shows_what_it_would_change_and_then_changes_it(opmas: Shell, typed: Typed, packages: Path) -> None:
    assert typed(opmas, "delete", "talker").returncode == 0
    broken = {"agent_id": "broken", "change": "broken"}
    expected = [{"agent_id": "talker", "change": "register", "detail": "talker"}]

    shown = asked(typed, opmas, "sync", "--dry-run")["changes"]
    assert shown[0].items() >= broken.items()
    assert shown[1:] == expected
    assert "talker" in typed(opmas, "packages", "--unregistered").stdout
    assert typed(opmas, "describe", "talker").returncode == 3

    assert asked(typed, opmas, "sync", "--agent-id", "talker")["changes"] == expected
    assert typed(opmas, "describe", "talker").returncode == 0
    assert "nothing to change" in typed(opmas, "sync", "--agent-id", "talker").stderr
    assert typed(opmas, "sync").returncode == 1  # one package is broken


def test_sync_refreshes_an_agent_whose_package_has_changed_and_names_one_whose_package_is_gone(
    opmas: Shell, typed: Typed, configured: str, packages: Path
) -> None:
    manifest = packages / configured / "agent.yaml"
    manifest.write_text(_CONFIGURED + "version: 2.0.0\n")
    typed(opmas, "reload", configured)
    assert asked(typed, opmas, "describe", configured)["agent"]["version"] == "2.0.0"

    typed(opmas, "register", configured, "--id", "cousin")
    (packages / configured).rename(packages / ".away")
    until(lambda: "`opmas delete cousin`" in typed(opmas, "sync", "--dry-run").stdout, "the package to be gone")
    (packages / ".away").rename(packages / configured)
    until(lambda: "gone" not in typed(opmas, "sync", "--dry-run").stdout, "the package to be back")
    assert typed(opmas, "delete", "cousin").returncode == 0
    until(lambda: typed(opmas, "describe", configured).returncode == 0, "the package's own agent to be back")


# --- following ------------------------------------------------------------------------------------------------------


def test_following_events_shows_each_as_it_happens_until_ctrl_c(
    opmas: Shell, typed: Typed, twins: tuple[str, str]
) -> None:
    typed(opmas, "stop", twins[0])
    follower = subprocess.Popen(
        [OPMAS, "events", "-f", twins[0], "--limit", "1", "--json"],
        env=opmas.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout
        first = json.loads(follower.stdout.readline())
        typed(opmas, "start", *twins)
        while json.loads(line := follower.stdout.readline())["status"] != "running":
            assert json.loads(line)["agent_id"] == twins[0]
        follower.send_signal(signal.SIGINT)
        _, complaints = follower.communicate(timeout=_PATIENCE_S)
    finally:
        follower.kill()
        follower.communicate()

    assert json.loads(line)["id"] > first["id"]
    assert (follower.returncode, complaints) == (130, "")


@pytest.mark.parametrize(
    "words",
    [("nodes",), ("audit",), ("why", "greeter"), ("config", "get", "greeter"), ("sync", "--dry-run"), ("doctor",),
     ("reload",), ("register", "no-such-package"), ("delete", "nobody"), ("wait", "greeter", "talker")],
    ids=" ".join,
)  # fmt: skip
def test_json_is_exactly_one_document(opmas: Shell, typed: Typed, words: Sequence[str]) -> None:
    typed(opmas, "start", "talker", "greeter")

    assert isinstance(json.loads(typed(opmas, *words, "--json").stdout), dict)
