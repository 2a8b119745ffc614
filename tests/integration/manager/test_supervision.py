"""What becomes of instances that end, loop, hang, never get ready, or speak no NATS at all."""

import asyncio
import json
import signal
from pathlib import Path

from agent_manager.nats import Role
from opmas.bus import Bus, Msg
from opmas.wire import subjects
from tests.integration.manager.fleet import WORKER, Document, Fleet, Operator, pids, until
from tests.node import exists, kill

# Silence is judged every second; the shortest times with room for a busy machine.
QUICK = {"interval": 0.2, "timeout": 1.5}
AT_ONCE = {"delay": 0.01, "max_delay": 0.01}


def packages(fleet: Fleet) -> None:
    fleet.package("worker", WORKER, autostart=False)
    fleet.package(
        "looping",
        command=["sh", "-c", "echo trying; echo no luck >&2; exit 7"],
        heartbeat="process",
        restart={**AT_ONCE, "max_attempts": 3},
        autostart=False,
    )
    fleet.package("mute", command=["sleep", "1000"], start_timeout=1, restart="never")
    fleet.package("hanging", WORKER, heartbeat=QUICK, restart=AT_ONCE, autostart=False)
    fleet.package("frozen", WORKER, heartbeat=QUICK, on_hang="ignore", autostart=False)
    fleet.package("done", command=["true"], heartbeat="process", autostart=False)
    fleet.package("done7", command=["sh", "-c", "exit 7"], success_exit_codes=[7], heartbeat="process", autostart=False)
    fleet.package("absent", command=["no-such-program"], heartbeat="process", restart="never", autostart=False)
    fleet.package("plain", command=["sleep", "1000"], autostart=False)
    fleet.package("other", command=["sleep", "1000"], autostart=False)


async def test_an_instance_that_dies_is_back_at_once_and_counted(operator: Operator) -> None:
    (pid,) = pids(await operator.start("worker"))
    kill(pid)

    after = await operator.until("worker", lambda view: view["status"] == "running" and pids(view) not in ([], [pid]))

    (instance,) = after["instances"]
    assert instance["restarts"] == 1
    assert (instance["last_exit"]["signal"], instance["last_exit"]["reason"]) == (9, "killed")


async def test_a_crash_loop_ends_as_an_error_that_says_why(operator: Operator) -> None:
    await operator.command("start", "looping")

    view = await operator.until("looping", lambda view: "crash_loop" in view["reason"])

    assert view["status"] == "error"
    assert view["next_retry_at"] is None
    assert view["reason"].startswith("exited with code 7; crash_loop: 3 starts within")
    last = (await operator.events("looping"))[-1]
    assert last["status"] == "error"
    assert last["cause"]["exit_code"] == 7
    assert last["cause"]["last_lines"][-2:] == ["trying", "no luck"]


async def test_an_operator_s_start_gives_a_crash_loop_another_series(operator: Operator) -> None:
    await operator.until("looping", lambda view: "crash_loop" in view["reason"])
    before = (await operator.get("looping"))["instances"][0]["restarts"]
    await operator.command("start", "looping")

    after = await operator.until(
        "looping", lambda v: "crash_loop" in v["reason"] and v["instances"][0]["restarts"] > before
    )

    assert after["instances"][0]["restarts"] == before + 2


async def test_of_two_that_hang_one_is_replaced_and_one_left_alone_as_their_manifests_say(operator: Operator) -> None:
    (hanging,), (frozen,) = pids(await operator.start("hanging")), pids(await operator.start("frozen"))
    kill(frozen, signal.SIGSTOP)
    await operator.until("frozen", lambda view: view["status"] == "inactive")
    kill(hanging, signal.SIGSTOP)

    inactive = await operator.until("hanging", lambda view: view["status"] == "inactive")
    replaced = await operator.until(
        "hanging", lambda view: view["status"] == "running" and pids(view) not in ([], [hanging])
    )
    alone = await operator.get("frozen")  # silent for longer than the other
    kill(frozen, signal.SIGCONT)
    again = await operator.running("frozen")

    assert inactive["reason"].startswith("no heartbeat for")
    assert replaced["instances"][0]["last_exit"]["reason"] == "hang"
    assert replaced["instances"][0]["restarts"] >= 1
    assert (alone["status"], pids(alone)) == ("inactive", [frozen])
    assert (again["reason"], pids(again)) == ("", [frozen])


async def test_one_that_is_not_ready_in_time_is_ended(operator: Operator) -> None:
    view = await operator.until("mute", lambda view: view["status"] == "error")

    assert "start_timeout" in view["reason"]
    assert view["instances"][0]["last_exit"]["reason"] == "start_timeout"
    launched = next(e["cause"]["detail"] for e in await operator.events("mute") if "pid" in e["cause"]["detail"])
    assert not exists(int(launched.split()[-1]))


async def test_one_that_has_done_its_work_stays_stopped(operator: Operator) -> None:
    for agent_id, code in (("done", 0), ("done7", 7)):
        await operator.command("start", agent_id)

        view = await operator.until(
            agent_id, lambda view: view["instances"] and view["instances"][0]["last_exit"] and not pids(view)
        )

        (instance,) = view["instances"]
        assert (view["status"], view["reason"], instance["restarts"]) == ("stopped", "", 0)
        assert (instance["last_exit"]["exit_code"], instance["last_exit"]["reason"]) == (code, "completed")


async def test_a_program_that_is_not_there_is_an_error_that_names_it(operator: Operator) -> None:
    await operator.command("start", "absent")

    view = await operator.until("absent", lambda view: view["status"] == "error")

    assert "no-such-program" in view["reason"]


# --- the plain contract ---------------------------------------------------------------------------------------------


def slot(fleet: Fleet, agent_id: str) -> Path:
    return fleet.home / "run" / agent_id / "0"


async def report(bus: Bus, **fields: object) -> None:
    await bus.publish(subjects.STATUS, json.dumps({"status": "running", **fields}).encode())
    await bus.flush()


async def test_a_plain_program_proves_with_its_token_that_it_is_ready(operator: Operator, shared: Fleet) -> None:
    for agent_id in ("plain", "other"):
        await operator.command("start", agent_id)
        await operator.until(agent_id, lambda view: view["status"] == "starting" and pids(view))
    token = (slot(shared, "plain") / "token").read_text()
    instance = await shared.login(Role.AGENT, "plain", instance_id="plain-0")

    async with shared.bus(instance) as bus:
        await report(bus, agent_id="plain", token="wrong")
        await report(bus, agent_id="plain")
        await report(bus, agent_id="other", token=token)
        await until(lambda: _rejected(shared, 3), "three rejections")
        assert (await operator.get("plain"))["status"] == "starting"
        heard = await _republished(operator, bus, token)

    view = await operator.running("plain")
    assert (await operator.get("other"))["status"] == "starting"
    assert view["instances"][0]["last_heartbeat"]
    assert heard["agent_id"] == "plain"
    assert heard["instance_id"] == "plain-0"
    assert heard["metadata"] == {"beats": 1}
    assert "token" not in heard


async def _rejected(fleet: Fleet, count: int) -> bool:
    return fleet.manager.log.read_text().count('"report_rejected"') >= count


async def _republished(operator: Operator, bus: Bus, token: str) -> Document:
    """Report once, truly, and return what the manager tells all others of it."""
    heard: asyncio.Queue[Document] = asyncio.Queue()

    async def listen(msg: Msg) -> None:
        if subjects.REPUBLISHED_HEADER in msg.headers and b'"plain"' in msg.data:
            heard.put_nowait(json.loads(msg.data))

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        subscription = await operator.bus.subscribe(subjects.STATUS, listen, tasks=tasks)
        await operator.bus.flush()
        await report(bus, agent_id="plain", token=token, metadata={"beats": 1})
        found = await heard.get()
        await subscription.drain()
    return found


async def test_a_plain_program_s_figures_are_taken_with_its_token_only(operator: Operator, shared: Fleet) -> None:
    await operator.command("start", "plain")
    await operator.until("plain", pids)
    token = (slot(shared, "plain") / "token").read_text()
    instance = await shared.login(Role.AGENT, "plain", instance_id="plain-0")

    async with shared.bus(instance) as bus:
        for fields in ({"metrics": {"n": 666}, "agent_id": "plain"}, {"metrics": {"n": 3}, "token": token}):
            await bus.publish(subjects.METRICS, json.dumps(fields).encode())

        async def counted() -> bool:
            found: Document = await operator.query("metrics", "plain")
            return bool(found["metrics"]["custom"])

        await until(counted, "the figures")

    assert (await operator.query("metrics", "plain"))["metrics"]["custom"] == {"n": 3}


async def test_a_stopped_instance_s_token_and_credentials_are_gone(operator: Operator, shared: Fleet) -> None:
    await operator.command("start", "plain")
    await operator.until("plain", pids)
    token = (slot(shared, "plain") / "token").read_text()
    await operator.stop("plain")

    assert not (slot(shared, "plain") / "token").exists()
    assert not (slot(shared, "plain") / "creds").exists()
    await operator.command("start", "plain")
    await operator.until("plain", pids)
    assert (slot(shared, "plain") / "token").read_text() != token
