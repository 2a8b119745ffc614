"""What OPMAS is for: packages on disk become agents that hear, answer and share the work."""

import asyncio
import json
import re
import shutil
from collections import Counter

import pytest

from tests.node import ROOT, Node, exists, until, write_package

SSHD_LOG = ROOT.parent / "shared" / "data" / "OpenSSH_2k.log"

TWIN = """
    from opmas.agent import Agent, on


    class Worker(Agent):
        @on("events.task.*")
        async def work(self, message):
            await self.publish("events.done", f"{self.instance_id} {message.subject}")
"""


@pytest.mark.skipif(not SSHD_LOG.exists(), reason="the log is not beside this checkout")
async def test_each_address_that_guesses_passwords_in_a_real_log_is_found_exactly_once(node: Node) -> None:
    shutil.copytree(ROOT / "packages" / "log-sentinel", node.packages / "log-sentinel")
    lines = SSHD_LOG.read_text().splitlines()
    failures = Counter(address for line in lines for address in re.findall(r"Failed password .* from (\S+)", line))
    guessers = {address for address, count in failures.items() if count >= 5}
    assert len(guessers) == 10
    node.running("log-sentinel")

    client = await node.nats()
    try:
        findings = await client.subscribe("findings.security")
        for line in lines:
            await client.publish("logs.sshd", line.encode())
        found = [json.loads((await findings.next_msg(timeout=30)).data) for _ in guessers]
        # Behind all others in the sentinel's queue: when it is found too, nothing more can come of what was before.
        for _ in range(5):
            await client.publish("logs.sshd", b"Failed password for root from 203.0.113.99 port 22 ssh2")
        last = json.loads((await findings.next_msg(timeout=30)).data)
    finally:
        await client.close()

    assert {finding["source"] for finding in found} == guessers
    assert last["source"] == "203.0.113.99"


async def test_two_replicas_handle_each_message_once_between_them(node: Node) -> None:
    write_package(
        node.packages,
        "twin",
        TWIN,
        replicas=2,
        permissions={"subjects": {"subscribe": ["events.task.*"], "publish": ["events.done"]}},
    )
    node.running("twin")

    client = await node.nats()
    try:
        done = await client.subscribe("events.done")
        for number in range(200):
            await client.publish(f"events.task.{number}", b"")
        answers = [(await done.next_msg(timeout=30)).data.decode().split() for _ in range(200)]
        with pytest.raises(asyncio.TimeoutError):
            await done.next_msg(timeout=0.2)
    finally:
        await client.close()

    assert sorted(subject for _, subject in answers) == sorted(f"events.task.{number}" for number in range(200))
    assert {instance for instance, _ in answers} == {"twin-0", "twin-1"}


def test_a_package_appears_changes_and_goes_without_a_restart(node: Node) -> None:
    folder = write_package(node.packages, "guest", TWIN)
    before = node.running("guest")

    (folder / "agent.yaml").write_text(json.dumps({"name": "guest", "entrypoint": "agent.py:Worker", "version": "2.0"}))
    until(lambda: node.agent("guest")["version"] == "2.0", "the new version to be noticed")
    assert node.running("guest") == before

    shutil.rmtree(folder)
    until(lambda: node.api("GET", "/api/v1/agents/guest")[0] == 404, "the agent to be forgotten")
    assert not any(exists(pid) for pid in before.values())


def test_an_author_gets_from_init_to_a_running_agent_in_four_commands(node: Node) -> None:
    def opmas(*words: str) -> str:
        ended = node.cli(*words)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    opmas("init", "greeter")
    opmas("validate", str(node.packages / "greeter"))
    until(lambda: node.api("GET", "/api/v1/agents/greeter")[0] == 200, "the package to be discovered")
    assert opmas("wait", "greeter").startswith("greeter: running")
    assert "ready to say Hello" in opmas("logs", "greeter")
