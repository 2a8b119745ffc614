"""Why an agent is what it is: one injected cause each, and the whole answer as it was agreed (`why/*.txt`).

After a wanted change of words: `REWRITE=1 pytest tests/integration/manager/test_why.py`, and read the difference.
"""

import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.integration.manager.fleet import SLEEPER, WORKER, Document, Fleet, Operator, pids, until
from tests.integration.manager.test_packages import change, package_of

GOLDEN = Path(__file__).with_name("why")

BLOCKED = """
    import pathlib
    import os
    import time

    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            before = pathlib.Path(os.environ["OPMAS_DATA_DIR"]) / "before"
            if not before.exists():
                before.touch()
                self.spawn(self.block())

        async def block(self):
            import asyncio

            await asyncio.sleep(2)
            time.sleep(10_000)
"""
HUNGRY = """
    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            bytearray(1 << 60)
"""
NEVER = {"restart": "never"}
PULSE = {"interval": 0.2, "timeout": 1.0}
STUBBORN = {"command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], "heartbeat": "process"}


def packages(fleet: Fleet) -> None:
    for name in ("idle", "halted", "off", "nobody", "shot", "unheld"):
        fleet.package(name, **SLEEPER | NEVER)
    for name in ("fine", "pair"):
        fleet.package(name, WORKER)
    fleet.package("mute", command=["sleep", "1000"], start_timeout=3600)
    fleet.package("orphan", **SLEEPER | {"autostart": True}, depends_on=["missing"])
    fleet.package("middle", **SLEEPER | {"autostart": True}, depends_on={"idle": {"condition": "healthy"}})
    fleet.package("patient", **SLEEPER | {"autostart": True}, depends_on=["middle"])
    fleet.package("hen", **SLEEPER | {"autostart": True}, depends_on=["egg"])
    fleet.package("egg", **SLEEPER | {"autostart": True}, depends_on=["hen"])
    for name in ("mangled", "coloured", "unlinked", "greedy", "failing"):
        fleet.package(name, command=["sh", "-c", "echo out of luck >&2; exit 3"], heartbeat="process", **NEVER)
    fleet.package("vanished", **SLEEPER)
    fleet.package("unimportable", "import no_such_module\n", **NEVER)
    fleet.package("hungry", HUNGRY, **NEVER)
    fleet.package("retrying", command=["sh", "-c", "exit 4"], restart={"delay": 1000, "max_delay": 1000})
    fleet.package("looping", command=["sh", "-c", "exit 5"], restart={"max_attempts": 2, "delay": 0})
    fleet.package("late", command=["sleep", "1000"], start_timeout=0.5, heartbeat=PULSE, **NEVER)
    fleet.package("silent", BLOCKED, heartbeat=PULSE, on_hang="ignore", stop_grace_period=0.1)
    fleet.package("hung", BLOCKED, heartbeat=PULSE, stop_grace_period=0.1)
    fleet.package("done", command=["true"], heartbeat="process")
    fleet.package("absent", command=["no-such-program"], **NEVER)
    fleet.package("stopping", **STUBBORN, stop_grace_period=600)
    fleet.package("restarting", **STUBBORN, stop_grace_period=600)
    fleet.package("threaded", WORKER, preload=["no_such_module"])
    fleet.package("outdated", WORKER)
    fleet.package("unnamed", WORKER, models=["nameless"])
    fleet.package("keyless", WORKER, models=["locked"])
    (fleet.home.parent / "config").mkdir()
    (fleet.home.parent / "config" / "agent_manager.yaml").write_text(
        "models: {locked: {model: 'openai:gpt-5', key: OPMAS_TEST_NO_KEY}}"
    )
    fleet.package("swapped", **SLEEPER | {"restart": {"delay": 0}})


async def nothing(_fleet: Fleet, _operator: Operator) -> None:
    """It is as it is by itself."""


def commanded(*commands: str, agent: str, **params: Any) -> Callable[[Fleet, Operator], Awaitable[None]]:
    async def inject(_fleet: Fleet, operator: Operator) -> None:
        for name in commands[:-1]:
            await operator.command(name, agent, wait=60)
        await operator.command(commands[-1], agent, **params)

    return inject


def rewritten(agent: str, **fields: Any) -> Callable[[Fleet, Operator], Awaitable[None]]:
    async def inject(fleet: Fleet, operator: Operator) -> None:
        await operator.until(agent, lambda view: view["status"] in {"error", "running"})
        change(fleet.packages / agent, **fields)

        async def noticed() -> bool:
            return bool((await package_of(operator, agent))["error"])

        await until(noticed, "the mistake to be noticed")

    return inject


async def mangle(fleet: Fleet, operator: Operator) -> None:
    await operator.until("mangled", lambda view: view["status"] == "error")
    (fleet.packages / "mangled" / "agent.yaml").write_text("name: mangled\ncommand: [true\n")


async def take_away(fleet: Fleet, operator: Operator) -> None:
    await operator.command("register", "borrower", package="vanished")
    await operator.command("start", "borrower", wait=60)
    shutil.rmtree(fleet.packages / "vanished")


def shoot(agent: str, *, shim: bool = False) -> Callable[[Fleet, Operator], Awaitable[None]]:
    async def inject(_fleet: Fleet, operator: Operator) -> None:
        (pid,) = pids(await operator.start(agent))
        os.kill(psutil.Process(pid).ppid() if shim else pid, signal.SIGKILL)

    return inject


class Cause(NamedTuple):
    """What is done to an agent, and the code by which its answer is known to be complete."""

    agent: str
    code: str
    inject: Callable[[Fleet, Operator], Awaitable[None]] = nothing


CAUSES = {
    "never_started": Cause("idle", "never_started"),
    "stopped": Cause("halted", "stopped_by_command", commanded("start", "stop", agent="halted", wait=60)),
    "disabled": Cause("off", "disabled", commanded("start", "disable", agent="off", wait=60)),
    "running": Cause("fine", "running"),
    "running_scaled": Cause("pair", "running", commanded("start", "scale", agent="pair", replicas=2, wait=60)),
    "starting": Cause("mute", "starting"),
    "dependency_missing": Cause("orphan", "waiting_for_dependency"),
    "dependency_not_healthy": Cause("middle", "waiting_for_dependency"),
    "dependency_waits_itself": Cause("patient", "waiting_for_dependency"),
    "circle": Cause("hen", "circle"),
    "package_mangled": Cause("mangled", "package_broken", mangle),
    "package_unknown_key": Cause("coloured", "package_broken", rewritten("coloured", colour="red")),
    "package_file_missing": Cause("unlinked", "package_broken", rewritten("unlinked", env_file="no.env")),
    "package_gone": Cause("borrower", "package_gone", take_away),
    "permission_refused": Cause(
        "greedy", "permission_refused", rewritten("greedy", permissions={"subjects": {"publish": ["orders.>"]}})
    ),
    "import_error": Cause("unimportable", "import_error"),
    "out_of_memory": Cause("hungry", "out_of_memory"),
    "exit_code": Cause("failing", "crash"),
    "retrying": Cause("retrying", "crash"),
    "crash_loop": Cause("looping", "crash_loop"),
    "killed": Cause("shot", "killed", shoot("shot")),
    "shim_killed": Cause("unheld", "shim_killed", shoot("unheld", shim=True)),
    "start_timeout": Cause("late", "start_timeout"),
    "silent": Cause("silent", "silent"),
    "hang_restarted": Cause("hung", "restarted"),
    "killed_restarted": Cause("swapped", "restarted", shoot("swapped")),
    "completed": Cause("done", "completed"),
    "program_not_found": Cause("absent", "cannot_execute"),
    "model_not_defined": Cause("unnamed", "model_missing"),
    "model_without_its_key": Cause("keyless", "model_missing"),
    "stopping": Cause("stopping", "stopping", commanded("start", "stop", agent="stopping")),
    "restarting": Cause("restarting", "restarting", commanded("start", "restart", agent="restarting")),
    "preload_refused": Cause("threaded", "preload_refused"),
    "scaled_to_zero": Cause("nobody", "scaled_to_zero", commanded("start", "scale", agent="nobody", replicas=0)),
    "running_on_a_broken_package": Cause("outdated", "running", rewritten("outdated", colour="red")),
}
# Some agents here do not mean to end in time.
SETTINGS = {"OPMAS_MANAGER__DRAIN_TIMEOUT": "0"}


@pytest.mark.parametrize("name", CAUSES)
async def test_a_cause_is_told_as_agreed(operator: Operator, shared: Fleet, name: str) -> None:
    cause = CAUSES[name]
    golden = GOLDEN / f"{name}.txt"
    await cause.inject(shared, operator)
    agreed = golden.read_text() if golden.exists() else ""
    rewrite = bool(os.environ.get("REWRITE"))
    said = ""

    async def told() -> bool:
        nonlocal said
        why = await operator.query("why", cause.agent)
        said = written(why, shared)
        return why["code"] == cause.code if rewrite else said == agreed

    try:
        await until(told, f"the cause {cause.code}")
    except AssertionError:
        assert said == agreed
        raise
    if rewrite:
        golden.write_text(said)


def written(why: Document, fleet: Fleet) -> str:
    """The answer without what differs from run to run."""
    lines = [f"{why['agent_id']} is {why['status']} ({why['code']})", why["summary"]]
    lines += [f"=> {why['hint']}"] if why["hint"] else []
    for step in why["steps"]:
        when = "at some time" if step.get("time") else "now"
        lines.append(f"- {when} {step['actor'] or 'nobody'}: {step['what']}")
    lines += [f"| {line}" for line in why["last_lines"][-1:]]
    lines += ["and again at some time"] if why.get("next_retry_at") else []
    text = "\n".join(lines).replace(str(fleet.packages), "packages")
    text = re.sub(r"no heartbeat for [\d.]+ s", "no heartbeat for some s", text)
    return re.sub(r"in PATH \([^)]*\)", "in PATH (...)", text) + "\n"
