"""The verbs about runs, against a whole OPMAS with an agent that takes them."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import OPMAS, Shell, Typed
from tests.integration.cli.terminal import terminal
from tests.node import until


@pytest.fixture(autouse=True)
def _running(opmas: Shell, typed: Typed) -> None:
    assert typed(opmas, "wait", "echo").returncode == 0


def asked(typed: Typed, opmas: Shell, *words: str) -> Any:
    """Return the JSON document that a command prints."""
    return json.loads(typed(opmas, *words, "--json").stdout)


def waiting(typed: Typed, opmas: Shell, message: str = "buy") -> str:
    """Begin a run that waits for a human; return its id."""
    ended = typed(opmas, "run", "echo", message, "--param", "confirm=true", "--json")
    assert ended.returncode == 8
    return str(json.loads(ended.stdout)["runId"])


def test_run_prints_the_answer_and_data_below_it(opmas: Shell, typed: Typed) -> None:
    ended = typed(opmas, "run", "echo", "hello there", "--param", 'data={"a": 1}')

    assert (ended.returncode, ended.stdout) == (0, 'hello there\n{\n  "a": 1\n}\n')


def test_run_streams_and_goes_on_with_a_session(opmas: Shell, typed: Typed) -> None:
    first = asked(typed, opmas, "run", "echo", "one")
    ended = typed(opmas, "run", "echo", "two three", "--stream", "--session", first["sessionId"])
    lines = typed(opmas, "run", "echo", "two three", "--stream", "--json").stdout.splitlines()

    assert (ended.returncode, ended.stdout) == (0, "two three\n")
    assert [json.loads(line)["type"] for line in lines] == ["start", "chunk", "chunk", "end"]
    shown = asked(typed, opmas, "sessions", "show", first["sessionId"])
    assert [said["content"] for said in shown["messages"]] == ["one", "one", "two three", "two three"]


def test_run_reads_stdin_and_gives_files(opmas: Shell, typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("abc")

    ended = subprocess.run(
        [OPMAS, "run", "echo", "-", "--file", tmp_path / "note.txt"],
        env=opmas.env,
        input="from a pipe",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ended.stdout == "from a pipe\nnote.txt: 3 bytes\n"
    stored = asked(typed, opmas, "files", "put", str(tmp_path / "note.txt"))["files"]
    assert [(file["name"], file["type"], file["size"]) for file in stored] == [("note.txt", "text/plain", 3)]


def test_a_run_that_waits_for_a_human_says_how_to_decide_and_goes_on_once_it_is_decided(
    opmas: Shell, typed: Typed
) -> None:
    ended = typed(opmas, "run", "echo", "buy", "--param", "confirm=true")
    run = ended.stderr.split()[1]
    assert ended.returncode == 8
    assert f"opmas runs confirm {run} --no" in ended.stderr
    assert "Say it back?" in typed(opmas, "runs", "show", run[:28] + "…").stdout

    confirmed = typed(opmas, "runs", "confirm", run, "--arguments", '{"message": "sell"}')

    assert confirmed.returncode == 0
    until(lambda: asked(typed, opmas, "runs", "show", run).get("content") == "sell", "the run to go on")
    again = typed(opmas, "runs", "confirm", run)
    assert again.returncode == 6
    assert "it is completed" in again.stderr


def test_a_run_can_be_rejected_with_a_reason_or_cancelled(opmas: Shell, typed: Typed) -> None:
    rejected, cancelled = waiting(typed, opmas), waiting(typed, opmas)

    assert typed(opmas, "runs", "confirm", rejected, "--no", "--note", "too dear").stdout.startswith(
        f"{rejected}: rejected"
    )
    assert typed(opmas, "runs", "cancel", cancelled).stdout == f"{cancelled}: cancelled\n"

    until(lambda: "Silent" in asked(typed, opmas, "runs", "show", rejected).get("content", ""), "the run to go on")
    listed = asked(typed, opmas, "runs", "ls", "--agent", "echo", "--status", "cancelled", "--since", "5m")
    assert cancelled in {run["runId"] for run in listed["runs"]}
    assert rejected in typed(opmas, "runs", "ls", "--limit", "200").stdout


def test_who_waits_no_longer_leaves_the_run_alone(opmas: Shell, typed: Typed) -> None:
    ended = typed(opmas, "run", "echo", "a b c", "--param", "delay=60", "--wait", "0.3")
    run = ended.stderr.rpartition("opmas runs cancel ")[2].split("`")[0]
    assert ended.returncode == 7
    assert asked(typed, opmas, "runs", "show", run)["status"] in {"pending", "running"}

    begun = typed(opmas, "run", "echo", "a b c", "--param", "delay=60", "--no-wait").stdout.strip()
    assert typed(opmas, "runs", "cancel", run, begun).returncode == 0
    until(
        lambda: asked(typed, opmas, "runs", "show", begun).get("data", {}).get("reason") == "cancelled", "it to be over"
    )


def test_who_asks_an_agent_that_is_in_error_is_told_so_at_once(opmas: Shell, typed: Typed) -> None:
    typed(opmas, "start", "faller", "--no-wait")
    typed(opmas, "wait", "faller")

    ended = typed(opmas, "run", "faller", "hi", "--wait", "0.3")

    assert ended.returncode == 7
    assert ended.stderr.startswith("faller is in `error` (exited with code 3")
    assert "`opmas why faller`" in ended.stderr
    assert typed(opmas, "runs", "cancel", ended.stderr.split("`")[-2].split()[-1]).returncode == 0


def test_sessions_are_listed_renamed_exported_and_deleted(opmas: Shell, typed: Typed, tmp_path: Path) -> None:
    session = asked(typed, opmas, "run", "echo", "to be kept")["sessionId"]

    assert session in typed(opmas, "sessions", "ls", "--agent", "echo").stdout
    assert typed(opmas, "sessions", "rename", session, "Kept").stdout == f"{session}: Kept\n"
    assert typed(opmas, "sessions", "show", session).stdout.startswith("Kept (echo, 1 run)")
    assert "to be kept" in typed(opmas, "sessions", "export", session).stdout
    file = tmp_path / "session.json"
    assert typed(opmas, "sessions", "export", session, "--format", "json", "--output", str(file)).returncode == 0
    assert json.loads(file.read_text())["sessionId"] == session
    assert typed(opmas, "sessions", "rm", session).stdout == f"{session}: deleted\n"
    assert typed(opmas, "sessions", "show", session).returncode == 3


def test_the_smoke_test_says_what_is_well_and_stops_at_what_is_not(opmas: Shell, typed: Typed) -> None:
    well, ill = typed(opmas, "test"), typed(opmas, "test", "--agent-id", "ecko", "--user-id", "u")

    assert well.returncode == 0
    assert [line.split()[:2] for line in well.stdout.splitlines()] == [
        ["✓", name] for name in ("health", "info", "agents", "session", "run")
    ]
    assert ill.returncode == 1
    assert "✗ agents" in ill.stdout
    assert "did you mean 'echo'?" in ill.stdout
    assert asked(typed, opmas, "test", "echo")["passed"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "ecko", "hi"), 3, "did you mean 'echo'?"),
        (("run", "talker", "hi"), 3, "`opmas start talker`"),
        (("run", "echo", " "), 2, "no message"),
        (("run", "echo", "--strem"), 2, "--strem"),
        (("run", "echo", "hi", "--strem"), 2, "--strem"),
        (("run", "echo", "hi", "--param", "x"), 2, "key=value"),
        (("run", "echo", "hi", "--file", "/nowhere"), 2, "/nowhere"),
        (("run", "echo", "hi", "--param", "fail=broken"), 1, "broken"),
        (("chat", "ecko"), 3, "did you mean 'echo'?"),
        (("runs", "show", "nope"), 3, "no such run"),
        (("runs", "show", "../x"), 3, "no such run"),
        (("runs", "cancel"), 2, "no run is named"),
        (("runs", "ls", "--status", "happy"), 2, "status"),
        (("runs", "ls", "--since", "yesterday"), 2, "--since"),
        (("sessions", "show", "nope"), 3, "no such session"),
        (("files", "put"), 2, "none is named"),
    ],
)
def test_an_error_about_runs_has_its_exit_code_and_says_what_to_do(
    opmas: Shell, typed: Typed, words: Sequence[str], code: int, said: str
) -> None:
    typed(opmas, "stop", "talker")

    ended = typed(opmas, *words)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("opmas: ")
    assert said in ended.stderr


def test_while_nobody_answers_a_run_is_tried_again_and_says_so(opmas: Shell, typed: Typed) -> None:
    ended = typed(opmas, "run", "echo", "hi", OPMAS_URL="http://127.0.0.1:1", AGENTOS_RETRY_ATTEMPTS="1")

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "trying again in 1 s\nopmas: cannot reach the management API" in ended.stderr


def test_chat_takes_lines_from_a_pipe_in_one_session(opmas: Shell) -> None:
    ended = subprocess.run(
        [OPMAS, "chat", "echo"],
        env=opmas.env,
        input="first\n\nsecond one\n/session\n/quit\nnever\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ended.stdout == "first\nsecond one\n"
    assert "session " in ended.stderr


def test_a_confirmation_is_asked_at_the_terminal_and_may_be_edited(opmas: Shell) -> None:
    with terminal(opmas, "run", "echo", "buy", "--param", "confirm=true") as screen:
        screen.expect("Say it back?")
        screen.expect("confirm? ")
        screen.type("perhaps")
        screen.expect("confirm? ")
        screen.type("n too dear")
        screen.expect("Silent")
        assert screen.ended() == 0
    with terminal(opmas, "run", "echo", "buy", "--param", "confirm=true") as screen:
        screen.expect("confirm? ")
        screen.type("e")
        screen.expect('{"message": "buy"}')
        screen.type("\x01\x0b" + '{"message": "sell"}')  # to the beginning, and take away what is there
        screen.expect("sell")
        screen.expect("sell")
        assert screen.ended() == 0
    with terminal(opmas, "run", "echo", "buy", "--param", "confirm=true") as screen:
        screen.expect("confirm? ")
        screen.leave()
        screen.expect("waits for a human")
        assert screen.ended() == 8


def test_ctrl_c_cancels_the_run_and_says_so(opmas: Shell, typed: Typed) -> None:
    with terminal(opmas, "run", "echo", "one two three", "--stream", "--param", "delay=60") as screen:
        screen.expect("one")
        screen.interrupt()
        screen.expect("cancelled run ")
        assert screen.ended() == 130
    latest = asked(typed, opmas, "runs", "ls", "--limit", "1")["runs"][0]["runId"]
    until(lambda: asked(typed, opmas, "runs", "show", latest).get("data", {}).get("reason") == "cancelled", "its end")


def test_chat_goes_on_after_ctrl_c_and_ends_at_ctrl_d(opmas: Shell) -> None:
    with terminal(opmas, "chat", "echo") as screen:
        screen.expect("> ")
        screen.type("hello there")
        screen.expect("hello there")  # as it was typed
        screen.expect("hello there")
        screen.expect("> ")
        screen.interrupt_prompt("> ")
        screen.type("/new")
        screen.expect("new session")
        screen.expect("> ")
        screen.leave()
        assert screen.ended() == 0
