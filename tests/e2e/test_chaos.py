"""Whatever dies, in whatever order: in the end there is one of everything that is wanted, and nothing else."""

import contextlib
import http.client
import random
import time
from collections import defaultdict
from pathlib import Path

from tests.node import Node, kill, until, write_package

PARENT = """
    import subprocess

    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            subprocess.Popen(["sleep", "6666"], start_new_session=True)
"""
AGENTS = ("north", "south", "west")
# What is killed how often; instances and those who own them most.
VICTIMS = {"manager": 4, "api": 1, "nats-server": 1, "template": 1, "shim": 3, "instance": 5}


def processes(node: Node) -> dict[str, list[int]]:
    found = defaultdict(list)
    for pid, words in node.processes().items():
        found[kind_of(words.strip())].append(pid)
    return found


def kind_of(words: str) -> str:
    kinds = {
        "sleep 6666": "child",
        "opmas: template": "template",
        "opmas: shim": "shim",
        "opmas: ": "instance",
        "agent_manager": "manager",
        "management_api": "api",
        "nats-server": "nats-server",
        "opmas up": "up",
    }
    return next((kind for part, kind in kinds.items() if part in words), words)


def test_after_thirty_random_kills_and_commands_there_is_one_process_for_each_slot(root: Path) -> None:
    dice = random.Random(2026)  # noqa: S311 - the same kills every time, no secret
    node = Node(root)
    for name in AGENTS:
        restart = {"max_attempts": 1000, "max_delay": 1}
        write_package(node.packages, name, PARENT, replicas=2, restart=restart, heartbeat={"interval": 1})
    node.up().running(*AGENTS)

    for _ in range(30):
        if dice.random() < 0.2:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):  # the API may be away
                verb = dice.choice(("restart", "stop", "start"))
                node.api("POST", f"/api/v1/agents/{dice.choice(AGENTS)}/{verb}")
        elif victims := processes(node)[dice.choices([*VICTIMS], [*VICTIMS.values()])[0]]:
            with contextlib.suppress(ProcessLookupError):
                kill(dice.choice(victims))
        time.sleep(dice.random() * 0.2)  # the chance that others act before the next blow

    until(lambda: all(post_start(node, name) for name in AGENTS), "the API to take commands")
    node.running(*AGENTS)
    wanted = {"up": 1, "nats-server": 1, "manager": 1, "api": 1, "instance": 6, "shim": 6, "child": 6}

    def census() -> dict[str, int]:
        return {kind: len(pids) for kind, pids in processes(node).items() if kind != "template"}

    until(lambda: census() == wanted, "one of each")
    assert node.down().returncode == 0
    assert not node.processes()
    assert "Traceback" not in node.log.read_text()


def post_start(node: Node, agent_id: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return node.api("POST", f"/api/v1/agents/{agent_id}/start")[0] == 200
    return False
