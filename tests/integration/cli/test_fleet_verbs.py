"""The verbs against a whole OPMAS: a manager, an API and agents that are real processes."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.cli.conftest import OPMAS, Shell, Typed


def asked(opmas: Shell, *words: str) -> Any:
    """Return the JSON document that a command prints: the whole of its stdout."""
    return json.loads(opmas(*words, "--json").stdout)


def pids(opmas: Shell, agent: str) -> list[int]:
    found = asked(opmas, "describe", agent)["agent"]["instances"]
    return [instance["pid"] for instance in found if instance["pid"]]


def test_an_agent_is_scaled_restarted_stopped_and_started(opmas: Shell) -> None:
    assert opmas("scale", "greeter", "2").stdout == "greeter: running, 2 instances\n"
    before = pids(opmas, "greeter")
    assert len(before) == 2

    assert opmas("restart", "greeter").returncode == 0
    assert set(pids(opmas, "greeter")).isdisjoint(before)

    assert opmas("stop", "greeter").stdout == "greeter: stopped\n"
    assert opmas("wait", "greeter", "--for", "stopped").returncode == 0
    assert opmas("start", "greeter").returncode == 0
    assert opmas("scale", "greeter", "1").returncode == 0
    assert len(pids(opmas, "greeter")) == 1


def test_several_agents_are_commanded_at_once_and_one_failure_spoils_no_other(opmas: Shell) -> None:
    ended = opmas("start", "talker", "greter", "greeter")

    assert ended.returncode == 3
    assert ended.stdout == "talker: running\ngreeter: running\n"
    assert "cannot start 'greter': no such agent" in ended.stderr
    assert "did you mean 'greeter'?" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("describe", "greter"), 3, "did you mean 'greeter'?"),
        (("logs", "nobody"), 3, "no such agent"),
        (("events", "nobody"), 3, "no such agent"),
        (("wait", "nobody"), 3, "no such agent"),
        (("describe", "../x"), 3, "no such agent"),
        (("wait", "greeter", "--for", "stopped", "--timeout", "0.1"), 7, "within 0.1 s"),
        (("start",), 2, "--all"),
        (("start", "greeter", "--all"), 2, "exclude"),
        (("scale", "greeter"), 2, "number of instances"),
        (("scale", "greeter", "5000"), 2, "replicas"),
        (("logs", "--since", "yesterday"), 2, "--since"),
        (("logs", "-f", "--json"), 2, "--follow"),
        (("ls", "--status", "happy"), 2, "status"),
        (("lss",), 2, "did you mean 'ls'?"),
        (("ls", "--jsn"), 2, "--json"),
    ],
)
def test_an_error_has_its_exit_code_and_says_what_to_do(
    opmas: Shell, typed: Typed, words: Sequence[str], code: int, said: str
) -> None:
    ended = typed(opmas, *words)

    assert ended.returncode == code
    assert bool(ended.stdout) is ("--json" in words)
    assert ended.stderr.startswith("opmas: ")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_up_is_refused(opmas: Shell) -> None:
    ended = opmas("up")

    assert ended.returncode == 6
    assert "already runs" in ended.stderr


def test_a_wrong_token_is_denied_with_a_word_on_where_to_get_it(opmas: Shell, typed: Typed) -> None:
    ended = typed(opmas, "ls", OPMAS_TOKEN="wrong")

    assert ended.returncode == 5
    assert "opmas token" in ended.stderr


@pytest.mark.parametrize(
    "words",
    [("ls",), ("describe", "greeter"), ("events",), ("events", "greeter", "--limit", "2"), ("packages",), ("status",),
     ("logs",), ("logs", "greeter", "--tail", "1"), ("start", "greeter"), ("wait", "greeter"), ("describe", "nobody"),
     ("start", "nobody"), ("ls", "--nonsense")],
    ids=" ".join,
)  # fmt: skip
def test_json_is_exactly_one_document_even_of_an_error(opmas: Shell, typed: Typed, words: Sequence[str]) -> None:
    assert isinstance(json.loads(typed(opmas, *words, "--json").stdout), dict)


def test_every_result_of_a_command_has_the_same_fields_failed_or_not(opmas: Shell, typed: Typed) -> None:
    results = json.loads(typed(opmas, "start", "greeter", "nobody", "../x", "--json").stdout)["results"]

    assert [result["status"] for result in results] == ["success", "error", "error"]
    fields = {"status", "command", "agent_id", "result", "error", "timestamp"}
    assert all(set(result) == fields for result in results)


def test_an_agent_that_fell_is_described_with_its_exit_code_and_its_last_words(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "faller", "--wait", "5")
    deadline = time.monotonic() + 10
    while asked(opmas, "describe", "faller")["agent"]["status"] != "error":
        assert time.monotonic() < deadline

    ended = typed(opmas, "describe", "faller")

    assert "error" in ended.stdout
    assert "code 3" in ended.stdout
    assert "these were my last words" in ended.stdout


def test_packages_shows_a_broken_one_with_its_error(opmas: Shell, typed: Typed) -> None:
    assert "unknown key 'entrypont'" in typed(opmas, "packages").stdout


def test_logs_of_many_agents_are_in_the_order_of_time_behind_their_names(opmas: Shell) -> None:
    opmas("start", "talker")

    lines = asked(opmas, "logs", "talker", "greeter")["lines"]

    assert {line["agent_id"] for line in lines} == {"talker", "greeter"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    shown = opmas("logs", "talker", "--stream", "stderr", "--grep", "ERRED", "--tail", "5").stdout
    assert shown.startswith("talker-0 ")
    assert "erred" in shown
    assert "said" not in shown


def test_following_shows_new_lines_once_and_ctrl_c_ends_it_quietly(opmas: Shell) -> None:
    opmas("start", "talker")
    follower = subprocess.Popen(
        [OPMAS, "logs", "-f", "talker", "--tail", "1", "--stream", "stdout"],
        env=opmas.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout
        numbers = [int(follower.stdout.readline().rsplit(maxsplit=1)[1]) for _ in range(5)]
        follower.send_signal(signal.SIGINT)
        _, complaints = follower.communicate(timeout=10)
    finally:
        follower.kill()
        follower.communicate()

    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert (follower.returncode, complaints) == (130, "")


def test_a_reader_that_has_enough_ends_the_command_quietly(opmas: Shell) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"{OPMAS} logs -f talker | head -n 1"],
        env=opmas.env, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""


def test_status_tells_each_process(opmas: Shell) -> None:
    found = asked(opmas, "status")

    assert set(found["processes"]) == {"up", "nats-server", "manager", "api"}
    assert all(process["alive"] for process in found["processes"].values())
    assert found["health"]["status"] == "ok"
    assert opmas("status").returncode == 0


def test_env_lets_other_tools_in(opmas: Shell) -> None:
    script = f'eval "$({OPMAS} env)" && curl -sf -H "Authorization: Bearer $OPMAS_TOKEN" $OPMAS_URL/api/v1/agents'
    script += ' && test -r "$NATS_CREDS" && test -n "$NATS_URL"'
    ended = subprocess.run(["sh", "-c", script], env=opmas.env, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["total"] >= 3


# --- terminals ------------------------------------------------------------------------------------------------------


def in_a_terminal(opmas: Shell, *words: str, **env: str) -> str:
    """Run a command in a terminal of 60 columns and return what it draws."""
    outer, inner = pty.openpty()
    try:
        subprocess.run([OPMAS, *words], env=opmas.env | {"COLUMNS": "60"} | env, stdout=inner, timeout=30, check=True)
        os.close(inner)
        return _drained(lambda: os.read(outer, 65_536)).decode()
    finally:
        os.close(outer)


def _drained(read: Callable[[], bytes]) -> bytes:
    drawn = b""
    with suppress(OSError):  # the other side is closed: that is how a terminal ends
        while chunk := read():
            drawn += chunk
    return drawn


def test_a_table_fits_the_terminal_and_is_coloured_only_there(opmas: Shell) -> None:
    opmas("start", "faller", "--wait", "5")

    drawn, plain = in_a_terminal(opmas, "ls", NO_COLOR=""), in_a_terminal(opmas, "ls", NO_COLOR="1")

    assert "\x1b[" in drawn
    assert "\x1b[" not in plain
    assert "\x1b[" not in opmas("ls").stdout
    assert max(len(line) for line in plain.splitlines()) <= 60
