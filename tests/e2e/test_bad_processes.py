"""Agents that misbehave: each gets what it deserves, with its reason on show, and no other agent notices."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.node import Node, exists, processes_of, until, write_package

QUIET = """
    from opmas.agent import Agent


    class Worker(Agent):
        pass
"""


@pytest.fixture(scope="module")
def bystander(node: Node) -> Iterator[Node]:
    """The shared node with a well-behaved agent, which no other's misbehaviour may touch."""
    write_package(node.packages, "bystander", QUIET)
    before = node.running("bystander"), node.pid("manager")
    yield node
    assert (node.running("bystander"), node.pid("manager")) == before
    assert node.instances("bystander")[0]["restarts"] == 0


def describe(node: Node, agent_id: str) -> str:
    ended = node.cli("describe", agent_id)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def failed(node: Node, agent_id: str) -> str:
    """Wait until the agent is given up; return why."""

    def reason() -> str:
        view = node.agent(agent_id)
        return str(view["reason"]) if view["status"] == "error" and not view.get("next_retry_at") else ""

    return until(reason, f"{agent_id} to be given up")


def exec_package(node: Node, name: str, script: str, **fields: object) -> None:
    fields = {"runtime": "exec", "heartbeat": "process", "command": ["sh", "-c", script]} | fields
    write_package(node.packages, name, **fields)


def stop(node: Node, agent_id: str) -> None:
    ended = node.cli("stop", agent_id)
    assert ended.returncode == 0, ended.stderr


def test_an_agent_that_exits_at_once_is_given_up_with_its_reason_and_its_last_words(bystander: Node) -> None:
    code = """
        import sys
        from opmas.agent import Agent

        class Worker(Agent):
            async def start(self):
                print("nothing to live for")
                sys.exit(3)
    """
    write_package(bystander.packages, "mayfly", code, restart={"max_attempts": 3, "delay": 0.05})

    assert "crash_loop: 3 starts" in failed(bystander, "mayfly")

    shown = describe(bystander, "mayfly")
    assert "exited with code 3" in shown
    assert "nothing to live for" in shown
    ended = bystander.cli("start", "mayfly")
    assert ended.returncode == 1
    assert "cannot start 'mayfly'" in ended.stderr
    stop(bystander, "mayfly")


def test_an_agent_that_cannot_be_imported_shows_its_traceback(bystander: Node) -> None:
    write_package(bystander.packages, "broken", "import no_such_module", restart={"condition": "never"})

    failed(bystander, "broken")

    shown = describe(bystander, "broken")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in shown
    assert 'agent.py", line 1' in shown
    stop(bystander, "broken")


def test_an_agent_that_ignores_sigterm_is_killed_after_its_grace(bystander: Node) -> None:
    exec_package(bystander, "stubborn", "trap '' TERM; while :; do sleep 0.1; done", stop_grace_period=0.3)
    pid = bystander.running("stubborn")["stubborn-0"]

    stop(bystander, "stubborn")

    assert not exists(pid)
    assert bystander.agent("stubborn")["status"] == "stopped"


def test_two_hundred_children_in_sessions_of_their_own_end_with_their_agent(bystander: Node) -> None:
    exec_package(bystander, "fertile", "for i in $(seq 200); do setsid sleep 54321 & done; wait")
    bystander.running("fertile")

    def children() -> list[int]:
        return [pid for pid, words in processes_of(bystander.home).items() if words.strip() == "sleep 54321"]

    until(lambda: len(children()) == 200, "200 children")
    stop(bystander, "fertile")

    assert not children()


def test_a_gigabyte_without_a_newline_fills_neither_disk_nor_memory(bystander: Node) -> None:
    exec_package(
        bystander,
        "flood",
        "head -c 1000000000 /dev/zero | tr '\\0' x; printf '\\nend\\n'; exec sleep 54322",
        logging={"max_size": "1MB", "max_files": 2},
    )
    bystander.running("flood")
    manager = psutil.Process(bystander.pid("manager"))

    until(lambda: bystander.lines("flood", 1) == ["end"], "the end of the line")

    assert bystander.lines("flood", 2)[0].startswith("xxx")
    slot = bystander.home / "run" / "flood" / "0"
    assert sum(file.stat().st_size for file in slot.glob("log*")) < 2_500_000
    assert manager.memory_info().rss < 300_000_000
    stop(bystander, "flood")


def test_what_is_no_utf8_is_shown_all_the_same(bystander: Node) -> None:
    exec_package(bystander, "babel", "printf 'caf\\351 \\000\\033[31m red\\n'; exec sleep 54323")
    bystander.running("babel")

    until(lambda: bystander.lines("babel"), "its line")

    assert bystander.lines("babel")[0] == "caf\ufffd \x00\x1b[31m red"
    shown = bystander.cli("logs", "babel")
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    stop(bystander, "babel")


def test_an_agent_whose_preload_starts_a_thread_is_executed_and_the_daemon_says_why(bystander: Node) -> None:
    write_package(bystander.packages, "threaded", QUIET, preload=["tests.e2e.threaded"])

    pid = bystander.running("threaded")["threaded-0"]

    assert "opmas.agent" in psutil.Process(pid).cmdline() or psutil.Process(pid).name() == "threaded-0"
    said = [line for line in bystander.log.read_text().splitlines() if "preload_refused" in line]
    assert "tests.e2e.threaded" in json.loads(said[0])["reason"]
    stop(bystander, "threaded")


def test_a_package_that_hides_a_module_of_the_standard_library_is_refused_by_name(bystander: Node) -> None:
    folder = write_package(bystander.packages, ".shadow", QUIET)
    (folder / "json.py").write_text("")
    (folder / "agent.yaml").write_text(json.dumps({"name": "shadow", "entrypoint": "agent.py:Worker"}))
    folder.rename(bystander.packages / "shadow")

    def error() -> str:
        found = bystander.api("GET", "/api/v1/packages")[1]["packages"]
        return str(next((package["error"] for package in found if package["folder"] == "shadow"), ""))

    assert "json.py" in until(error, "the package to be listed with its error")
    assert bystander.api("GET", "/api/v1/agents/shadow")[0] == 404
    assert bystander.cli("validate", str(bystander.packages / "shadow")).returncode == 1


def test_long_manifests_and_one_with_thousands_of_mistakes_hide_no_other(bystander: Node) -> None:
    names = [f"long-{number}" for number in range(20)]
    for name in names:  # together more than one message can hold
        write_package(bystander.packages, name, QUIET, autostart=False, description="x" * 60_000)
    mistakes = {f"x{number}": 1 for number in range(4000)}
    write_package(bystander.packages, "mistaken", QUIET, **mistakes)

    def listed() -> list[str]:
        return [agent["id"] for agent in json.loads(bystander.cli("ls", "--json").stdout)["agents"]]

    until(lambda: {*names, "bystander"} <= set(listed()), "all to be listed")
    shown = until(
        lambda: [line for line in bystander.cli("packages", "--json").stdout.splitlines() if "x0" in line],
        "the mistakes",
    )
    assert "… and 3980 more" in shown[0]
    for name in (*names, "mistaken"):
        shutil.rmtree(bystander.packages / name)
    until(lambda: not set(names) & set(listed()), "them to be forgotten")


@pytest.fixture
def small_disk(node: Node) -> Iterator[Path]:
    """A disk of 64 KiB in the place of an instance's slot."""
    slot = node.home / "run" / "hoarder" / "0"
    slot.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(slot)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount")
    yield slot
    with contextlib.suppress(AssertionError):
        stop(node, "hoarder")
    subprocess.run(["umount", "-l", str(slot)], check=True)


def test_an_agent_goes_on_when_the_disk_of_its_log_is_full_and_the_log_tells(bystander: Node, small_disk: Path) -> None:
    script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done"
    (small_disk / "ballast").write_bytes(b"x" * 40_000)
    exec_package(bystander, "hoarder", script)
    pid = bystander.running("hoarder")
    until(lambda: bystander.lines("hoarder"), "its first line")
    with contextlib.suppress(OSError), (small_disk / "more").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 512)

    def full() -> bool:
        before = bystander.lines("hoarder")[-1]
        time.sleep(0.2)  # twenty lines' time
        return bystander.lines("hoarder")[-1] == before

    until(full, "the log to stand still")
    (small_disk / "ballast").unlink()

    until(lambda: any("lines lost" in line for line in bystander.lines("hoarder")), "the log to go on")
    assert bystander.running("hoarder") == pid
