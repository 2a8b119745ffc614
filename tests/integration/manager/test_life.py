"""The manager's own life: its lock, its signals, what outlives it, and what the next one makes of that."""

import asyncio
import signal
import subprocess
import sys

import pytest

from agent_manager.store import Store
from opmas.wire.errors import ManagerUnavailable, OpmasError
from tests.integration.manager.fleet import SLEEPER, WORKER, Document, Fleet, Operator, pids, until
from tests.node import PATIENCE_S, exists, kill

# Two seconds would do; a stop that is not obeyed must not hold the suite up.
STUBBORN: Document = {
    "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
    "heartbeat": "process",
    "stop_grace_period": 300,
}


async def test_the_next_manager_knows_what_was_wanted_and_what_had_failed(own: Fleet) -> None:
    own.package("wanted", **{**SLEEPER, "replicas": 2})
    own.package("unwanted", WORKER)
    own.package("looping", command=["false"], heartbeat="process", restart={"max_attempts": 1}, autostart=False)
    own.package("done7", command=["sh", "-c", "exit 7"], success_exit_codes=[7], heartbeat="process", autostart=False)
    own.manager.start()
    async with own.operator() as operator:
        await operator.start("wanted")
        await operator.command("scale", "wanted", replicas=1, wait=60)
        await operator.running("unwanted")
        await operator.stop("unwanted")
        for agent_id in ("looping", "done7"):
            await operator.command("start", agent_id)
        await operator.until("looping", lambda view: view["status"] == "error")
        await operator.until("done7", lambda view: view["instances"][0]["last_exit"])
        before = {view["id"]: view for view in (await operator.query("list"))["agents"]}
        assert own.manager.stop() == 0
    assert not any(map(exists, pids(before["wanted"])))

    own.manager.start()
    async with own.operator() as operator:
        await operator.running("wanted")
        views = {view["id"]: view for view in (await operator.query("list"))["agents"]}

    assert {agent_id: (view["status"], view["desired"]) for agent_id, view in views.items()} == {
        "wanted": ("running", "running"),
        "unwanted": ("stopped", "stopped"),
        "looping": ("error", "running"),
        "done7": ("stopped", "running"),
    }
    assert len(views["wanted"]["instances"]) == 1
    assert "crash_loop" in views["looping"]["reason"]
    for agent_id in ("looping", "done7"):  # nobody has tried them again
        assert views[agent_id]["instances"][0]["last_exit"] == before[agent_id]["instances"][0]["last_exit"]


async def test_a_second_manager_on_the_same_home_refuses_and_names_the_first(own: Fleet) -> None:
    own.manager.start()
    assert own.manager.process is not None

    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agent_manager"],
        env=own.manager.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert second.returncode == 6
    assert f"it is held by manager pid {own.manager.process.pid}" in second.stderr
    assert "OPMAS_HOME" in second.stderr


async def test_a_manager_whose_node_is_taken_over_leaves_without_touching_the_agents(own: Fleet) -> None:
    own.manager.environment["OPMAS_MANAGER__NODE"] = "here"
    own.package("worker", WORKER)
    own.manager.start()
    async with own.operator() as operator:
        living = pids(await operator.running("worker"))
    async with Store.open(f"sqlite:///{own.home / 'manager.db'}") as store:
        await store.claim_node("here", "another", 60, force=True)

    assert await asyncio.to_thread(own.manager.wait) == 6
    assert all(map(exists, living))


async def test_kept_agents_outlive_a_stopped_manager_and_are_adopted_with_credentials_that_last(own: Fleet) -> None:
    own.manager.environment["OPMAS_MANAGER__ON_MANAGER_EXIT"] = "keep"
    own.package("worker", WORKER)
    own.manager.start()
    async with own.operator() as operator:
        before = pids(await operator.running("worker"))
        assert own.manager.stop() == 0
        creds = own.home / "run" / "worker" / "0" / "creds"
        first = creds.read_text()
        assert all(map(exists, before))

        own.manager.start()
        after = await operator.running("worker")

        # What was found alive gets fresh credentials, for nobody remembers when its own expire.
        await until(lambda: _differs(creds.read_text(), first), "fresh credentials")
        assert pids(after) == before
        assert after["instances"][0]["restarts"] == 0
        own.manager.environment["OPMAS_MANAGER__ON_MANAGER_EXIT"] = "stop"
        own.manager.stop()
        own.manager.start()
        await operator.running("worker")


async def _differs(text: str, other: str) -> bool:
    return text != other


async def test_sighup_rereads_permissions_and_log_level_and_keeps_them_when_they_are_wrong(own: Fleet) -> None:
    config = own.manager.home.parent / "config" / "agent_manager.yaml"
    config.parent.mkdir()
    own.package("asking", WORKER, permissions={"subjects": {"publish": ["alerts.mine"]}})
    own.manager.start()
    async with own.operator() as operator:

        async def refused() -> str:
            (found,) = (await operator.query("packages"))["packages"]
            return str(found["error"])

        assert "alerts.mine, which is not allowed" in await refused()
        config.write_text("permissions: {allow: [alerts.>]}\nservice: {log_level: debug}\n")
        own.manager.signal(signal.SIGHUP)
        await operator.running("asking")
        assert await refused() == ""
        await until(lambda: _said(own, '"level": "debug"'), "a line of the new level")

        config.write_text("permissions: {alow: []}\n")
        own.manager.signal(signal.SIGHUP)
        await until(lambda: _said(own, "did you mean 'allow'"), "the mistake in the log")
        assert (await operator.get("asking"))["status"] == "running"


async def _said(fleet: Fleet, words: str) -> bool:
    return words in fleet.manager.log.read_text()


async def test_a_stopping_manager_stops_dependents_first_and_takes_no_more_commands(own: Fleet) -> None:
    own.package("base", WORKER)
    own.package("upper", WORKER, depends_on=["base"])
    own.package("mute", command=["sleep", "1000"], autostart=False)
    own.package("stubborn", **STUBBORN)
    own.manager.start()
    async with own.operator() as operator:
        for agent_id in ("base", "upper", "stubborn"):
            await operator.running(agent_id)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_error_of(operator, "start", "mute", wait=500))
            await operator.until("mute", lambda view: view["status"] == "starting")
            own.manager.signal(signal.SIGTERM)
        refused = await _error_of(operator, "start", "mute")
        await operator.until("base", lambda view: view["status"] == "stopped")
        stopped = [event["agent_id"] for event in await _stops(operator) if event["agent_id"] in {"base", "upper"}]
        own.manager.signal(signal.SIGTERM)  # `stubborn` would take five minutes: the second signal hurries
        assert own.manager.wait() == 0

    assert isinstance(waiting.result(), ManagerUnavailable)
    assert "stopped waiting for 'mute': the manager is stopping" in waiting.result().message
    assert "cannot take commands: the manager is stopping" in refused.message
    assert stopped == ["upper", "base"]


async def _error_of(operator: Operator, command: str, agent_id: str, **params: object) -> OpmasError:
    with pytest.raises(OpmasError) as raised:
        await operator.command(command, agent_id, **params)
    return raised.value


async def _stops(operator: Operator) -> list[Document]:
    events = (await operator.query("events", limit=1000))["events"]
    return [event for event in events if event["status"] == "stopped" and event["instance_id"]]


async def test_a_stop_that_is_not_obeyed_in_time_is_enforced(own: Fleet) -> None:
    own.manager.environment["OPMAS_MANAGER__DRAIN_TIMEOUT"] = "0.5"
    own.package("stubborn", **STUBBORN)
    own.manager.start()
    async with own.operator() as operator:
        living = pids(await operator.running("stubborn"))

    assert own.manager.stop() == 0
    assert not any(map(exists, living))


async def test_a_killed_manager_s_unfinished_business_is_finished_by_the_next(own: Fleet) -> None:
    own.package("stubborn", **{**STUBBORN, "stop_grace_period": 1})
    own.package("worker", WORKER)
    own.manager.start()
    async with own.operator() as operator:
        living = pids(await operator.running("stubborn"))
        (died,) = pids(await operator.running("worker"))
        await operator.command("stop", "stubborn")
        own.manager.kill()
        kill(died)  # nobody is there to see it

        own.manager.start()
        await operator.until("stubborn", lambda view: view["status"] == "stopped")
        after = await operator.running("worker")

    assert not any(map(exists, living))
    assert pids(after) != [died]
