"""Packages that come, change, break and go; dependencies; replicas that share their work."""

import asyncio
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opmas.bus import Msg
from opmas.wire.errors import AgentNotFound, PackageInvalid
from tests.integration.manager.fleet import SLEEPER, WORKER, Document, Fleet, Operator, pids, until
from tests.node import kill

ECHO = """
    from opmas.agent import Agent, Message, on


    class Worker(Agent):
        @on("logs.echo")
        async def echo(self, message: Message) -> None:
            await self.publish("findings.echo", {"by": self.instance_id, "data": message.data})
"""


IMPATIENT = {"interval": 0.1, "timeout": 0.2}


def packages(fleet: Fleet) -> None:
    mute = {"command": ["sleep", "1000"], "heartbeat": IMPATIENT, "start_timeout": 1}
    fleet.package("canary", **mute, restart="never", autostart=False)
    fleet.package("bystander", WORKER)
    fleet.package("app", **SLEEPER, depends_on={"queue": {"condition": "healthy"}, "store": None})
    fleet.package("queue", WORKER, autostart=False, depends_on=["store"])
    fleet.package("store", **SLEEPER)
    fleet.package("left", **SLEEPER, depends_on=["right"])
    fleet.package("right", **SLEEPER, depends_on=["left"])
    fleet.package("orphan", **SLEEPER, depends_on=["nobody"])
    subjects = {"subjects": {"subscribe": ["logs.echo"], "publish": ["findings.echo"]}}
    fleet.package("echo", ECHO, autostart=False, replicas=2, permissions=subjects)


def change(folder: Path, **fields: Any) -> None:
    """Give a package's manifest other fields, all at once."""
    path = folder / "agent.yaml"
    new = folder / ".agent.yaml"
    new.write_text(json.dumps(json.loads(path.read_text()) | fields))
    new.rename(path)


async def package_of(operator: Operator, name: str) -> Document:
    found = (await operator.query("packages"))["packages"]
    return next((package for package in found if package["name"] == name), {})


# --- packages -------------------------------------------------------------------------------------------------------


async def test_a_new_package_is_noticed_and_started_and_nobody_else_touched(operator: Operator, shared: Fleet) -> None:
    before = pids(await operator.running("bystander"))
    shared.package("fresh", WORKER)

    await operator.running("fresh")

    assert (await package_of(operator, "fresh"))["registered"]
    assert pids(await operator.get("bystander")) == before


async def test_a_broken_package_says_so_leaves_what_runs_alone_and_is_mended(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("fragile", **SLEEPER)
    await operator.until("fragile", bool)
    before = pids(await operator.start("fragile"))
    good = (folder / "agent.yaml").read_text()

    (folder / "agent.yaml").write_text(good.replace('"autostart"', '"autostrat"'))
    view = await operator.until("fragile", lambda view: view["reason"])
    with pytest.raises(PackageInvalid, match="autostrat"):
        await operator.command("restart", "fragile")
    (folder / "agent.yaml").write_text(good)
    mended = await operator.until("fragile", lambda view: not view["reason"])

    assert "did you mean 'autostart'" in view["reason"]
    assert pids(view) == pids(mended) == before
    assert (await package_of(operator, "bystander"))["error"] == ""


async def test_what_ended_while_its_package_was_broken_starts_when_it_is_mended(
    operator: Operator, shared: Fleet
) -> None:
    folder = shared.package("faulty", WORKER)
    (pid,) = pids(await operator.running("faulty"))
    code = (folder / "agent.py").read_text()
    (folder / "agent.py").write_text("class Worker(:")
    await operator.until("faulty", lambda view: view["reason"])
    kill(pid)
    failed = await operator.until("faulty", lambda view: view["status"] == "error")

    (folder / "agent.py").write_text(code)
    await operator.running("faulty")

    assert "cannot be compiled" in failed["reason"]


async def test_an_agent_whose_package_is_removed_is_stopped_and_forgotten(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("passing", WORKER)
    await operator.running("passing")
    shutil.rmtree(folder)

    async def forgotten() -> bool:
        return not any(view["id"] == "passing" for view in (await operator.query("list"))["agents"])

    await until(forgotten, "the agent to be forgotten")
    with pytest.raises(AgentNotFound):
        await operator.command("start", "passing")


async def test_a_command_and_a_change_on_disk_at_once_both_take_effect(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("contended", **SLEEPER)
    await operator.until("contended", bool)

    async def toggle() -> None:
        for number in range(40):
            await operator.command("start" if number % 2 else "stop", "contended")

    async def rewrite() -> None:
        for number in range(15):
            change(folder, version=f"1.0.{number}")
            await asyncio.sleep(0.02)  # spreads the changes over the commands

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(toggle())
        tasks.create_task(rewrite())
    view = await operator.until("contended", lambda view: view["version"] == "1.0.14")

    assert view["desired"] == "running"
    await operator.running("contended")


# --- dependencies ---------------------------------------------------------------------------------------------------


async def test_what_is_depended_on_starts_first(operator: Operator) -> None:
    await operator.command("start", "app", wait=60)

    store, queue, app = [await _since(operator, name, "launched as pid") for name in ("store", "queue", "app")]
    ready = await _since(operator, "queue", "", status="running")
    assert store < queue < ready < app
    assert all([pids(await operator.get(name)) for name in ("store", "queue", "app")])


async def _since(operator: Operator, agent_id: str, detail: str, status: str | None = None) -> int:
    """Return the id of an agent's last event of a kind: events are numbered in the order they happened."""
    events = await operator.events(agent_id)
    found = [e["id"] for e in events if detail in e["cause"].get("detail", "") and status in {None, e["status"]}]
    return int(found[-1])


async def test_agents_that_wait_for_each_other_are_refused_with_the_circle(operator: Operator) -> None:
    with pytest.raises(PackageInvalid, match="left -> right -> left"):
        await operator.command("start", "left")


async def test_one_that_needs_an_agent_nobody_has_says_what_it_waits_for(operator: Operator) -> None:
    await operator.command("start", "orphan")

    view = await operator.get("orphan")

    assert (view["status"], view["reason"]) == ("starting", "waiting for agent 'nobody', which is not registered")
    await operator.stop("orphan")


# --- replicas -------------------------------------------------------------------------------------------------------


async def test_replicas_share_messages_and_each_message_is_handled_once(operator: Operator) -> None:
    await operator.start("echo")
    heard: list[Document] = []

    async def hear(msg: Msg) -> None:
        heard.append(json.loads(msg.data))

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        subscription = await operator.bus.subscribe("findings.echo", hear, tasks=tasks)
        await operator.bus.flush()
        for number in range(200):
            await operator.bus.publish("logs.echo", str(number).encode())
        await until(lambda: _at_least(heard, 200), "every echo")
        await subscription.drain()

    assert Counter(int(echo["data"]) for echo in heard) == Counter(range(200))
    assert {echo["by"] for echo in heard} == {"echo-0", "echo-1"}


async def _at_least(heard: list[Document], count: int) -> bool:
    return len(heard) >= count


async def test_the_manifest_s_newer_word_on_replicas_stands_above_an_earlier_scale(
    operator: Operator, shared: Fleet
) -> None:
    folder = shared.package("sized", **SLEEPER)
    await operator.until("sized", bool)
    await operator.start("sized")
    await operator.command("scale", "sized", replicas=3, wait=60)
    change(folder, replicas=2)

    await operator.until("sized", lambda view: view["replicas"] == 2 and len(view["instances"]) == 2)


# --- last, because verdicts on silence wait until the bus has been good for some seconds ------------------------------


async def test_a_changed_package_reaches_its_instances_at_their_next_start(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("changing", **SLEEPER)
    await operator.until("changing", bool)
    before = pids(await operator.start("changing"))

    # A heartbeat that it never learned to send: judged by the new manifest it would be inactive, then killed.
    change(folder, version="2.0.0", heartbeat=IMPATIENT, start_timeout=1)
    changed = await operator.until("changing", lambda view: view["version"] == "2.0.0")
    await operator.command("start", "canary")
    await operator.until("canary", lambda view: view["status"] == "error")  # by now all verdicts have been passed
    later = await operator.get("changing")

    assert pids(changed) == pids(later) == before
    assert later["status"] == "running"
    await operator.command("restart", "changing")
    await operator.until("changing", lambda view: view["status"] == "starting" and pids(view) not in ([], before))
    await operator.stop("changing")
