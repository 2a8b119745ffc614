"""Agents are restarted when their files change, if they are watched."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.manager.fleet import WORKER, Document, Fleet, Operator, fleet, pids, until

VERSIONED = """
    from opmas.agent import Agent

    VERSION = 1


    class Worker(Agent):
        async def start(self):
            print("version", VERSION)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as one:
        one.package("plain", WORKER)
        one.package("watched", VERSIONED, watch=True)
        one.package("choosy", WORKER, watch={"paths": ["*.py", "prompts"], "ignore": ["test_*"], "debounce": "50ms"})
        one.package("resting", WORKER, watch=True, autostart=False)
        one.manager.start()
        yield one


@pytest.fixture
async def operator(shared: Fleet) -> AsyncIterator[Operator]:
    async with shared.operator() as one:
        yield one


def replace(folder: Path, old: str, new: str, name: str = "agent.py") -> None:
    """Save a file as editors do: whole."""
    draft = folder / f".{name}.new"
    draft.write_text((folder / name).read_text().replace(old, new))
    draft.rename(folder / name)


async def another(operator: Operator, agent_id: str, before: Document) -> Document:
    """Wait until another process than `before` runs."""
    return await operator.until(
        agent_id, lambda view: view["status"] == "running" and pids(view) and pids(view) != pids(before)
    )


async def orders(operator: Operator, agent_id: str) -> list[Document]:
    return [event["cause"] for event in await operator.events(agent_id) if event["kind"] == "ordered"]


async def heard_of(operator: Operator, agent_id: str, count: int) -> None:
    """Wait until the manager has seen so many changes of an agent's package."""

    async def seen() -> bool:
        kinds = [event["kind"] for event in await operator.events(agent_id)]
        return sum(kind in {"package_changed", "package_broken"} for kind in kinds) >= count

    await until(seen, f"{count} changes of {agent_id}")


async def says(operator: Operator, *words: str) -> None:
    """Wait for the last line of the agent; its shim may be a moment behind."""

    async def said() -> bool:
        return (await operator.query("logs", "watched", tail=1))["lines"][-1]["line"] in words

    await until(said, f"it to say {words}")


async def test_a_saved_file_restarts_a_watched_agent_and_no_other(shared: Fleet, operator: Operator) -> None:
    plain, before = await operator.running("plain"), await operator.running("watched")

    replace(shared.packages / "plain", "pass", "later = True")
    replace(shared.packages / "watched", "VERSION = 1", "VERSION = 2")

    after = await another(operator, "watched", before)
    await says(operator, "version 2")
    assert after["instances"][0]["restarts"] == before["instances"][0]["restarts"]
    (order,) = await orders(operator, "watched")
    assert (order["actor"], order["command"], order["detail"]) == ("watch", "restart", "agent.py changed")
    await heard_of(operator, "plain", 1)
    assert pids(await operator.get("plain")) == pids(plain)


async def test_a_broken_edit_leaves_the_instance_alone_and_the_mended_one_restarts_it(
    shared: Fleet, operator: Operator
) -> None:
    before = await operator.running("watched")
    told = len(await orders(operator, "watched"))

    replace(shared.packages / "watched", "VERSION =", "VERSION ==(")
    broken = await operator.until("watched", lambda view: "cannot be compiled" in view["reason"])
    assert pids(broken) == pids(before)
    replace(shared.packages / "watched", "VERSION ==(", "VERSION = 10 +")

    await another(operator, "watched", before)
    await says(operator, "version 11", "version 12")
    assert len(await orders(operator, "watched")) == told + 1


async def test_only_files_that_the_patterns_name_restart_it(shared: Fleet, operator: Operator) -> None:
    before, folder = await operator.running("choosy"), shared.packages / "choosy"
    for count, name in enumerate(("notes.txt", "test_agent.py"), start=1):
        (folder / name).write_text("nothing to run")
        await heard_of(operator, "choosy", count)

    (folder / "prompts").mkdir()
    (folder / "prompts" / "hello.md").write_text("Say hello.")

    await another(operator, "choosy", before)
    (order,) = await orders(operator, "choosy")
    assert order["detail"] == "prompts/hello.md changed"


async def test_what_is_stopped_stays_stopped(shared: Fleet, operator: Operator) -> None:
    replace(shared.packages / "resting", "pass", "later = True")
    await heard_of(operator, "resting", 1)
    before = await operator.running("choosy")
    replace(shared.packages / "choosy", "pass", "later = True")  # due after the other one would have been
    await another(operator, "choosy", before)

    assert await orders(operator, "resting") == []
    assert (await operator.get("resting"))["status"] == "stopped"


@pytest.fixture
def reloading(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, OPMAS_MANAGER__RELOAD="true") as one:
        yield one


async def test_with_reload_every_agent_is_watched(reloading: Fleet) -> None:
    folder = reloading.package("plain", WORKER)
    reloading.manager.start()
    async with reloading.operator() as operator:
        before = await operator.running("plain")
        manifest = json.loads((folder / "agent.yaml").read_text()) | {"description": "now with words"}
        (folder / "agent.yaml").write_text(json.dumps(manifest))

        after = await another(operator, "plain", before)
        assert after["description"] == "now with words"
