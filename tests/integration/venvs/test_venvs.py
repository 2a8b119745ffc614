"""Agents with packages of their own: installed once, shared when equal, and explained when that fails. Offline."""

import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from opmas.wire.errors import AgentFailed
from tests.integration.manager.fleet import Fleet, Operator, fleet, pids, until
from tests.integration.venvs.wheels import write_wheel

AGENT = """
    import os
    import sys

    import tinypack

    import opmas
    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            print("tinypack", tinypack.VERSION, os.path.basename(sys.prefix), flush=True)
"""
WAIT = 60


@contextmanager
def offline(root: Path) -> Iterator[Fleet]:
    """Provide a fleet whose registry is a folder, and which cleans up all the time."""
    for version in ("1.0", "2.0"):
        write_wheel(root / "wheels", "tinypack", version)
    settings = {"PIP_CONFIG_FILE": str(root / "pip.conf"), "PIP_FIND_LINKS": "", "UV_CACHE_DIR": str(root / "cache")}
    (root / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {root / 'wheels'}\n")
    with fleet(root, **settings, OPMAS_MANAGER__CLEANUP_INTERVAL="0.5") as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with offline(tmp_path_factory.mktemp("fleet")) as one:
        one.package("old", AGENT, isolation="venv", dependencies=["tinypack<2"], autostart=False)
        one.package("new", AGENT, isolation="venv", dependencies=["tinypack"], autostart=False)
        folder = one.package("filed", AGENT, isolation="venv", dependencies={"file": "needs.txt"}, autostart=False)
        (folder / "needs.txt").write_text("tinypack == 2.0  # the newest\n")
        missing = {"isolation": "venv", "dependencies": ["tinypack==3.0"], "autostart": False}
        one.package("missing", AGENT, **missing, replicas=2)
        one.package("program", command=["tinypack-says"], restart="never", **(missing | {"dependencies": ["tinypack"]}))
        clash = {"isolation": "venv", "dependencies": ["pydantic<2"], "autostart": False}
        one.package("clash", AGENT, **clash)
        one.manager.start()
        yield one


@pytest.fixture
async def operator(shared: Fleet) -> AsyncIterator[Operator]:
    async with shared.operator() as one:
        yield one


async def said(operator: Operator, agent_id: str, beginning: str = "tinypack ") -> str:
    """Return the last line that an agent wrote and that begins so; its shim may be a moment behind."""

    async def found() -> str:
        lines = [line["line"] for line in (await operator.query("logs", agent_id, tail=10))["lines"]]
        return next((line for line in reversed(lines) if line.startswith(beginning)), "")

    line: str = await until(found, f"{agent_id} to say {beginning!r}")
    return line


def age(home: Path, line: str) -> Path:
    """Let the venv that an agent has named be unused for more than a day."""
    venv = home / "venvs" / line.rsplit(maxsplit=1)[-1]
    os.utime(venv / "opmas.lock", (time.time() - 90_000,) * 2)
    return venv


async def test_two_agents_run_side_by_side_on_different_versions_of_a_package(operator: Operator) -> None:
    await operator.start("old")
    await operator.start("new")

    old, new = await said(operator, "old"), await said(operator, "new")
    assert old.startswith("tinypack 1.0 ")
    assert new.startswith("tinypack 2.0 ")
    assert old.split()[-1] != new.split()[-1]


async def test_equal_packages_share_a_venv_however_they_are_asked_for(shared: Fleet, operator: Operator) -> None:
    await operator.start("new")
    await operator.start("filed")

    assert await said(operator, "filed") == await said(operator, "new")


async def test_instances_are_forked_from_a_template_of_the_venv(operator: Operator) -> None:
    (pid,) = pids(await operator.start("old"))

    assert psutil.Process(pid).cmdline()[0] == "opmas: old-0"
    assert "exec" not in (await operator.query("why", "old"))["summary"]


async def test_what_cannot_be_installed_is_said_once_and_tried_again_when_the_package_changes(
    shared: Fleet, operator: Operator
) -> None:
    with pytest.raises(AgentFailed, match=r"no version of tinypack==3\.0"):
        await operator.command("start", "missing", wait=WAIT)
    failed = await operator.until("missing", lambda view: {i["status"] for i in view["instances"]} == {"error"})
    assert failed["next_retry_at"] is None
    why = await operator.query("why", "missing")
    assert why["code"] == "cannot_install"

    manifest = shared.packages / "missing" / "agent.yaml"
    manifest.write_text(manifest.read_text().replace("==3.0", "==2.0"))

    await operator.running("missing")
    assert (await said(operator, "missing")).startswith("tinypack 2.0 ")


async def test_versions_that_the_sdk_cannot_work_with_are_refused(operator: Operator) -> None:
    with pytest.raises(AgentFailed, match=r"you require pydantic<2 and pydantic>=2"):
        await operator.command("start", "clash", wait=WAIT)


async def test_a_command_finds_the_programs_of_its_venv(operator: Operator) -> None:
    await operator.command("start", "program")

    await operator.until("program", lambda view: [i for i in view["instances"] if i["last_exit"]])
    assert await said(operator, "program", "2") == "2.0"


async def test_a_venv_unused_for_a_day_goes_and_comes_back_with_the_same_versions(
    shared: Fleet, operator: Operator
) -> None:
    await operator.start("new")
    await operator.start("old")
    line = await said(operator, "old")
    await operator.stop("old")
    kept, gone = age(shared.home, await said(operator, "new")), age(shared.home, line)

    await operator.until("old", lambda _: not gone.exists())
    assert (kept / "opmas.lock").exists()
    write_wheel(shared.home.parent / "wheels", "tinypack", "1.5")
    await operator.start("old")

    assert await said(operator, "old") == line


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Fleet]:
    with offline(tmp_path) as one:
        yield one


async def test_an_adopted_agent_keeps_its_venv(own: Fleet) -> None:
    for name, needs in (("old", "tinypack<2"), ("new", "tinypack")):
        own.package(name, AGENT, isolation="venv", dependencies=[needs])
    own.manager.start()
    async with own.operator() as operator:
        await operator.running("new")
        await operator.running("old")
        lines = await said(operator, "new"), await said(operator, "old")
        await operator.stop("old")
    own.manager.kill()
    kept, gone = (age(own.home, line) for line in lines)

    own.manager.start()

    async with own.operator() as operator:
        await operator.until("new", lambda _: not gone.exists())
        assert (kept / "opmas.lock").exists()
        assert pids(await operator.get("new"))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Provide the address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_what_is_being_installed_is_shown_and_can_be_stopped(
    shared: Fleet, operator: Operator, silent_server: str
) -> None:
    url = f"{silent_server}/tinypack-1.0-py3-none-any.whl"
    shared.package("slow", AGENT, isolation="venv", dependencies=[f"tinypack @ {url}"])

    shown = await operator.until("slow", lambda view: view["reason"] == "installing dependencies")
    assert shown["status"] == "starting"
    why = await operator.query("why", "slow")
    assert why["summary"] == "slow-0 is installing dependencies and is not ready yet"
    assert (await operator.stop("slow"))["status"] == "stopped"
