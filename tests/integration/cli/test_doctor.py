"""`opmas doctor`: each thing that is injected is found, and named with what to do."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shell, Typed

Checks = dict[str, dict[str, str]]


def examined(typed: Typed, shell: Shell, **more: str) -> tuple[int, Checks]:
    ended = typed(shell, "doctor", "--json", **more)
    found = json.loads(ended.stdout)
    assert found["ok"] is (ended.returncode == 0)
    for check in found["checks"]:
        assert check["what"]
        assert check["verdict"] == "ok" or check["hint"], check
    return ended.returncode, {check["check"]: check for check in found["checks"]}


# --- a home in which nothing runs -----------------------------------------------------------------------------------


def test_a_fresh_home_has_nothing_wrong_and_is_not_made_by_looking(alone: Shell, typed: Typed) -> None:
    typed(alone, "init", "mine")

    code, found = examined(typed, alone, OPMAS_NATS__PORT="0")

    assert code == 0
    assert {name for name, check in found.items() if check["verdict"] != "ok"} <= {"processes", "nofile", "memory"}
    assert "opmas up" in found["processes"]["hint"]
    assert found["packages"]["what"] == "1 of 1 can be used"
    assert not Path(alone.env["OPMAS_HOME"]).exists()


def test_a_taken_port_is_named_with_its_holder(alone: Shell, typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code, found = examined(typed, alone, OPMAS_API__PORT=str(listener.getsockname()[1]), OPMAS_NATS__PORT="0")

    assert code == 1
    assert f"pid {os.getpid()}" in found["port of the API"]["what"]
    assert "OPMAS_API__PORT" in found["port of the API"]["hint"]


def test_a_readable_key_a_broken_package_and_a_clock_set_back_are_found(
    alone: Shell, typed: Typed, tmp_path: Path
) -> None:
    typed(alone, "init", "mine")
    (tmp_path / "packages" / "mine" / "agent.yaml").write_text("name: mine\nentrypont: agent.py\n")
    home = Path(alone.env["OPMAS_HOME"])
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / "admin.token").write_text("opmas_x")
    (home / "admin.token").chmod(0o644)
    later = time.time() + 3600
    os.utime(home / "admin.token", (later, later))

    code, found = examined(typed, alone, OPMAS_NATS__PORT="0")

    assert code == 1
    assert "admin.token" in found["secrets"]["what"]
    assert "chmod 600" in found["secrets"]["hint"]
    assert "unknown key 'entrypont'" in found["package mine"]["what"]
    assert "set back" in found["clock"]["what"]
    assert found["home"]["verdict"] == "warn"


@pytest.mark.parametrize(
    ("name", "value", "check", "said"),
    [
        ("OPMAS_NATS__PROT", "1", "settings", "did you mean 'OPMAS_NATS__PORT'"),
        ("OPMAS_DATABASE__URL", "mysql://x/y", "database of the manager", "does not speak mysql"),
        ("OPMAS_DATABASE__URL", "postgresql://x@127.0.0.1:1/y", "database of the API", "cannot reach the database"),
        ("OPMAS_NATS__URL", "nats://127.0.0.1:1", "nats", "127.0.0.1:1"),
        ("OPMAS_URL", "http://127.0.0.1:1", "api", "nothing listens there"),
        ("OPMAS_HOME", "/dev/null/home", "home", "/dev/null is no folder"),
    ],
)
def test_what_cannot_be_reached_or_used_is_found(
    alone: Shell, typed: Typed, name: str, value: str, check: str, said: str
) -> None:
    code, found = examined(typed, alone, **{"OPMAS_NATS__PORT": "0", name: value})

    assert code == 1
    assert found[check]["verdict"] == "fail"
    assert said in found[check]["what"]


# --- a home in which OPMAS runs -------------------------------------------------------------------------------------


def test_a_running_opmas_passes_but_for_its_broken_package(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "greeter")
    typed(opmas, "stop", "faller")

    code, found = examined(typed, opmas)

    assert code == 1
    failed = {name for name, check in found.items() if check["verdict"] == "fail"}
    assert failed == {"package broken"}
    assert {"up", "manager", "nats", "manager on NATS", "nats health", "api", "token", "agents"} <= found.keys()
    assert "unknown key 'entrypont'" in found["package broken"]["what"]


def test_a_fallen_agent_and_a_wrong_token_are_found(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "faller", "--no-wait")
    typed(opmas, "wait", "faller")

    _, found = examined(typed, opmas)
    assert "exited with code 3" in found["agent faller"]["what"]
    assert "opmas why faller" in found["agent faller"]["hint"]

    _, found = examined(typed, opmas, OPMAS_TOKEN="left-over")
    assert found["token"]["verdict"] == "fail"
    assert "OPMAS_TOKEN is set" in found["token"]["hint"]


def test_a_frozen_manager_is_found(opmas: Shell, typed: Typed) -> None:
    pid = json.loads(typed(opmas, "status", "--json").stdout)["processes"]["manager"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, found = examined(typed, opmas)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert code == 1
    assert found["nats"]["verdict"] == "ok"
    assert found["manager on NATS"]["verdict"] == "fail"
    assert found["api"]["verdict"] == "fail"


def test_people_are_shown_each_verdict_with_what_to_do(opmas: Shell) -> None:
    ended: subprocess.CompletedProcess[str] = opmas("doctor")

    assert "ok    python" in ended.stdout
    assert "fail  package broken" in ended.stdout
    assert " -> " in ended.stdout
    assert "Traceback" not in ended.stderr
