"""Agents that an operator makes, changes, disables and deletes; what their packages say of them meanwhile."""

import asyncio
import random
import shutil
from contextlib import suppress
from typing import Any

import pytest

from agent_manager.store import Store
from opmas.bus import Msg
from opmas.wire import subjects
from opmas.wire.errors import AgentNotFound, Conflict, InvalidRequest, PackageInvalid
from opmas.wire.messages import StatusReport
from tests.integration.manager.fleet import SLEEPER, Document, Fleet, Operator, pids, until
from tests.integration.manager.test_packages import change, package_of
from tests.node import exists, processes_of

CONFIGURED = """
    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            print("mood", self.config["mood"], flush=True)

        async def on_config_changed(self, old):
            print("mood", self.config["mood"], "after", old["mood"], flush=True)
"""
SLOW = """
    import asyncio
    import pathlib

    from opmas.agent import Agent


    class Worker(Agent):
        async def start(self):
            while not (pathlib.Path(__file__).parent / "go.log").exists():
                await asyncio.sleep(0.01)
            print("mood", self.config["mood"], flush=True)

        async def on_config_changed(self, old):
            print("mood", self.config["mood"], "after", old["mood"], flush=True)
"""
CONFIG = {
    "schema": {"type": "object", "properties": {"mood": {"enum": ["calm", "eager"]}}, "additionalProperties": False},
    "defaults": {"mood": "calm"},
}


def packages(fleet: Fleet) -> None:
    fleet.package("sleeper", **SLEEPER, labels={"tier": "back"}, access={"workspaces": ["acme"]})
    fleet.package("moody", CONFIGURED, config=CONFIG, autostart=False)
    fleet.package("doomed", **SLEEPER | {"autostart": True})
    fleet.package("broken", **SLEEPER, colour="red")


async def lines(operator: Operator, agent_id: str) -> list[str]:
    return [line["line"] for line in (await operator.query("logs", agent_id))["lines"]]


async def kinds(operator: Operator, agent_id: str) -> list[tuple[str, str]]:
    """What was done to an agent, and by whom."""
    return [(event["kind"], event["cause"]["actor"]) for event in await operator.events(agent_id)]


# --- registering ----------------------------------------------------------------------------------------------------


async def test_several_agents_of_one_package_each_have_a_life_of_their_own(operator: Operator) -> None:
    made = await operator.command("register", "left", package="sleeper", name="Left hand", labels={"side": "left"})
    await operator.command("register", "right", package="sleeper", replicas=2)
    left, right = await operator.start("left"), await operator.start("right")
    await operator.stop("left")

    assert made["accepted"]
    assert made["changed"]
    assert (left["name"], left["package"], left["labels"]) == ("Left hand", "sleeper", {"side": "left"})
    assert (right["name"], right["labels"], right["access"]["workspaces"]) == ("right", {"tier": "back"}, ["acme"])
    assert len(pids(right)) == 2
    assert all(map(exists, pids(right)))
    assert not exists(*pids(left))
    assert (await operator.get("sleeper"))["status"] == "stopped"
    assert ("registered", "operator:cli") in await kinds(operator, "left")
    await operator.stop("right")


WRONG: list[tuple[str, Document, type[Exception], str]] = [
    ("moody", {"package": "moody"}, Conflict, "there is an agent of that id"),
    ("fine", {"package": "sleepre"}, PackageInvalid, "there is no package 'sleepre'"),
    ("fine", {"package": "broken"}, PackageInvalid, "unknown key 'colour'"),
    ("fine", {"package": "moody", "config": {"mood": "sad"}}, InvalidRequest, "'sad' is not one of"),
    ("fine", {"package": "moody", "replicas": -1}, InvalidRequest, "replicas"),
    ("manager", {"package": "moody"}, InvalidRequest, "cannot be the id of an agent"),
    ("fine", {}, InvalidRequest, "package"),
]


@pytest.mark.parametrize(("agent_id", "params", "error", "words"), WRONG)
async def test_what_cannot_be_registered_is_refused_and_leaves_nothing(
    operator: Operator, agent_id: str, params: Document, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await operator.command("register", agent_id, **params)
    if agent_id == "fine":
        with pytest.raises(AgentNotFound):
            await operator.get(agent_id)


async def test_of_many_who_register_one_id_at_once_one_succeeds(operator: Operator) -> None:
    async def register() -> bool:
        try:
            await operator.command("register", "wanted-by-many", package="sleeper")
        except Conflict:
            return False
        return True

    async with asyncio.timeout(60):
        assert sum(await asyncio.gather(*(register() for _ in range(20)))) == 1


async def test_a_package_just_put_on_disk_can_be_registered_at_once(operator: Operator, shared: Fleet) -> None:
    shared.package("brand-new", **SLEEPER)

    await operator.command("register", "of-brand-new", package="brand-new")

    assert (await operator.get("of-brand-new"))["package"] == "brand-new"


# --- updating -------------------------------------------------------------------------------------------------------


async def test_a_new_config_reaches_running_instances_and_those_that_come_after(operator: Operator) -> None:
    before = pids(await operator.start("moody"))
    changed = await operator.command("update", "moody", config={"mood": "eager"})

    async def told() -> bool:
        return "mood eager after calm" in await lines(operator, "moody")

    await until(told, "the agent to hear of it")
    again = await operator.command("update", "moody", config={"mood": "eager"})
    assert pids(await operator.get("moody")) == before
    await operator.command("restart", "moody", wait=60)
    assert (await lines(operator, "moody"))[-1] == "mood eager"
    assert changed["changed"]
    assert not again["changed"]
    await operator.stop("moody")


async def test_a_config_that_the_schema_does_not_allow_changes_nothing(operator: Operator) -> None:
    before = await operator.get("moody")
    with pytest.raises(InvalidRequest, match=r"config\.mood"):
        await operator.command("update", "moody", config={"mood": 7}, labels={"x": "y"})

    after = await operator.get("moody")
    assert (after["config"], after["labels"]) == (before["config"], before["labels"])


async def test_a_mistyped_access_is_refused_before_it_leaves_an_agent_open_to_all(operator: Operator) -> None:
    before = await operator.get("moody")
    with pytest.raises(InvalidRequest, match=r"access\.workspace"):
        await operator.command("update", "moody", access={"workspace": ["acme"]})

    assert (await operator.get("moody"))["access"] == before["access"]


async def test_a_config_given_while_an_instance_starts_is_not_missed(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("slow", SLOW, config=CONFIG, autostart=False)
    await operator.until("slow", bool)
    await operator.command("start", "slow")
    await operator.until("slow", pids)
    await operator.command("update", "slow", config={"mood": "eager"})
    (folder / "go.log").touch()

    async def eager() -> bool:
        # Told of it, or so slow that it read it in its file at the start.
        said = await lines(operator, "slow")
        return bool(said) and said[-1].startswith("mood eager")

    await until(eager, "the agent to have it once it listens")
    await operator.stop("slow")


async def test_an_operator_s_word_outlives_the_package_s_next_one(operator: Operator, shared: Fleet) -> None:
    folder = shared.package("spoken", **SLEEPER, description="theirs", labels={"tier": "back"})
    await operator.until("spoken", bool)
    await operator.command("update", "spoken", description="ours", access={"roles": ["operator"]})
    change(folder, description="theirs again", labels={"tier": "front"}, access={"workspaces": ["acme"]})
    view = await operator.until("spoken", lambda view: view["labels"] == {"tier": "front"})

    assert view["description"] == "ours"
    assert view["access"] == {"workspaces": [], "roles": ["operator"]}


# --- disabling ------------------------------------------------------------------------------------------------------


async def test_a_disabled_agent_stops_and_no_one_starts_it_until_it_is_enabled(operator: Operator) -> None:
    await operator.start("sleeper")
    disabled = await operator.command("disable", "sleeper", wait=60)
    with pytest.raises(Conflict, match="it is disabled") as refused:
        await operator.command("start", "sleeper")
    enabled = await operator.command("enable", "sleeper", wait=60)

    assert disabled["status"] == "stopped"
    assert "opmas enable sleeper" in str(refused.value.hint)
    assert enabled["status"] == "running"  # as it was to be before
    assert [kind for kind, _ in await kinds(operator, "sleeper") if kind != "instance"][-2:] == ["disabled", "enabled"]
    await operator.stop("sleeper")


# --- deleting -------------------------------------------------------------------------------------------------------


async def test_a_deleted_agent_stays_away_until_it_is_registered_again(operator: Operator, shared: Fleet) -> None:
    (pid,) = pids(await operator.running("doomed"))
    deleted = await operator.command("delete", "doomed")
    change(shared.packages / "doomed", description="changed")
    await operator.command("reload", "sleeper")  # the disk has been looked at

    assert deleted["status"] == "stopped"
    assert not exists(pid)
    with pytest.raises(AgentNotFound):
        await operator.get("doomed")
    assert (await package_of(operator, "doomed"))["registered"] is False

    await operator.command("register", "doomed", package="doomed")
    view = await operator.running("doomed")
    assert view["description"] == "changed"
    await operator.command("delete", "doomed")


async def test_what_was_registered_updated_and_deleted_is_so_after_a_restart_of_the_manager(own: Fleet) -> None:
    own.package("sleeper", **SLEEPER)
    own.package("unwanted", **SLEEPER)
    own.manager.start()
    async with own.operator() as operator:
        await operator.command("register", "twin", package="sleeper", config={"a": 1}, access={"roles": ["user"]})
        await operator.command("disable", "twin")
        await operator.command("delete", "unwanted")
        before = await operator.get("twin")
    own.manager.kill()
    own.manager.start()
    async with own.operator() as operator:
        after = await operator.get("twin")
        listed = [view["id"] for view in (await operator.query("list"))["agents"]]

    assert after == before
    assert after["enabled"] is False
    assert listed == ["sleeper", "twin"]


async def test_registered_agents_outlive_their_package_and_run_again_when_it_is_back(
    operator: Operator, shared: Fleet
) -> None:
    folder = shared.package("lent", **SLEEPER | {"autostart": True})
    await operator.command("register", "borrower", package="lent")
    await operator.running("lent")
    await operator.running("borrower")
    aside = shared.home / "aside"
    shutil.move(folder, aside)
    gone = await operator.until("borrower", lambda view: view["status"] == "stopped" and view["reason"])

    async def forgotten() -> bool:
        return "lent" not in [view["id"] for view in (await operator.query("list"))["agents"]]

    await until(forgotten, "the agent that nobody registered to be forgotten")

    assert gone["reason"] == "its package folder 'lent' is gone"
    shutil.move(aside, folder)
    await operator.running("borrower")
    await operator.command("delete", "borrower")


# --- on record ------------------------------------------------------------------------------------------------------


async def test_the_audit_says_who_did_what_to_which_agent(operator: Operator) -> None:
    await operator.command("register", "watched", package="sleeper")
    await operator.command("update", "watched", description="seen")
    with pytest.raises(Conflict):
        await operator.command("register", "watched", package="sleeper")
    await operator.command("delete", "watched")
    page = await operator.query("audit", "watched")
    rest = await operator.query("audit", "watched", after=page["audit"][0]["id"], limit=1)

    told: list[Any] = [(row["command"], row["outcome"], row["error_code"]) for row in page["audit"]]
    assert told == [
        ("register", "success", ""),
        ("update", "success", ""),
        ("register", "error", "conflict"),
        ("delete", "success", ""),
    ]
    assert {row["publisher"] for row in page["audit"]} == {"operator:cli"}
    assert page["audit"][1]["params"] == {"description": "seen"}
    assert rest["audit"] == page["audit"][1:2]
    assert [kind for kind, _ in await kinds(operator, "watched")] == ["registered", "updated", "deleted"]


async def test_everybody_is_told_of_agents_and_of_their_statuses(operator: Operator) -> None:
    told: list[tuple[str, str]] = []

    async def listen(msg: Msg) -> None:
        report = StatusReport.model_validate_json(msg.data)
        if report.agent_id == "herald" and report.instance_id is None:
            assert subjects.REPUBLISHED_HEADER in msg.headers
            told.append((report.status.value, str(report.metadata.get("change", ""))))

    async with asyncio.TaskGroup() as tasks:
        subscription = await operator.bus.subscribe(subjects.STATUS, listen, tasks=tasks)
        await operator.bus.flush()
        await operator.command("register", "herald", package="sleeper")
        await operator.command("start", "herald", wait=60)
        await operator.command("delete", "herald")

        async def complete() -> bool:
            return bool(told) and told[-1] == ("stopped", "deleted")

        await until(complete, "the last of the news")
        await subscription.drain()

    assert told == [
        ("stopped", "registered"),
        ("starting", ""),
        ("running", ""),
        ("stopped", ""),
        ("stopped", "deleted"),
    ]


async def test_whatever_is_commanded_at_once_the_end_is_what_is_on_record(own: Fleet) -> None:
    chance = random.Random(7)  # noqa: S311 - the same storm in every run
    own.package("sleeper", **SLEEPER | {"stop_grace_period": 0})
    own.manager.start()
    commands: list[tuple[str, Document]] = [
        ("register", {"package": "sleeper"}),
        ("delete", {}),
        ("start", {}),
        ("stop", {}),
        ("restart", {}),
        ("disable", {}),
        ("enable", {}),
        ("scale", {"replicas": 2}),
        ("update", {"config": {"a": 1}}),
        ("update", {"config": {"a": 2}}),
    ]
    async with own.operator() as operator:

        async def command(name: str, params: Document) -> None:
            with suppress(AgentNotFound, Conflict):
                await operator.command(name, chance.choice(["a", "b", "sleeper"]), **params)

        async with asyncio.timeout(120):
            for _ in range(6):
                await asyncio.gather(*(command(*chance.choice(commands)) for _ in range(40)))
        listed = (await operator.query("list"))["agents"]
        for view in listed:
            await operator.command("stop", view["id"], wait=60)
        kept = {view["id"]: (view["enabled"], view["config"], view["replicas"]) for view in listed}

    assert not [pid for pid, words in processes_of(own.home).items() if words.startswith("sleep ")]
    async with Store.open(f"sqlite:///{own.home / 'manager.db'}") as store:
        rows = {row.id: (row.enabled, row.config, row.replicas) for row in await store.agents() if not row.deleted}
    assert rows == kept
    own.manager.stop()
    assert "Traceback" not in own.manager.log.read_text()
