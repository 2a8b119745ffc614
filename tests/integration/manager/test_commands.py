"""Commands over NATS: what they answer, what becomes of the processes, and who is on record for it."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from agent_manager.store import AuditRow, Store
from opmas.bus import Msg
from opmas.wire import subjects
from opmas.wire.errors import AgentFailed, AgentNotFound, Conflict, DeadlineExceeded, InvalidRequest
from opmas.wire.messages import Response
from tests.integration.manager.fleet import SLEEPER, WORKER, Fleet, Operator, pids, until
from tests.node import exists


def packages(fleet: Fleet) -> None:
    fleet.package("worker", WORKER, autostart=False)
    fleet.package("sleeper", **SLEEPER)
    fleet.package("mute", command=["sleep", "1000"], autostart=False)
    fleet.package("broken", command=["sh", "-c", "echo one; echo two >&2; exit 3"], autostart=False, restart="never")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def manager_database(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


SETTINGS = {"OPMAS_MANAGER__MONITORING_INTERVAL": "0.3"}


async def audit_of(fleet: Fleet, agent_id: str) -> list[AuditRow]:
    url = fleet.manager.environment.get("OPMAS_DATABASE__URL") or f"sqlite:///{fleet.home / 'manager.db'}"
    async with Store.open(url) as store:
        return await store.audit(agent_id)


async def test_start_and_stop_answer_when_it_is_so(operator: Operator) -> None:
    started = await operator.command("start", "worker", wait=60)
    (pid,) = pids(await operator.get("worker"))
    stopped = await operator.command("stop", "worker", wait=60)

    assert started["status"] == "running"
    assert stopped["status"] == "stopped"
    assert stopped["generation"] == started["generation"] + 1
    assert not exists(pid)


async def test_without_wait_a_command_is_answered_when_it_is_on_record(operator: Operator) -> None:
    started = await operator.command("start", "worker")

    assert started["accepted"]
    assert started["status"] == "starting"
    await operator.running("worker")

    stopped = await operator.command("stop", "worker")
    assert stopped["accepted"]
    await operator.until("worker", lambda view: view["status"] == "stopped")


async def test_a_bare_publish_is_obeyed_and_its_response_can_be_heard_by_all(operator: Operator) -> None:
    heard: asyncio.Queue[Response] = asyncio.Queue()

    async def listen(msg: Msg) -> None:
        heard.put_nowait(Response.model_validate_json(msg.data))

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        subscription = await operator.bus.subscribe(subjects.RESPONSE, listen, tasks=tasks)
        await operator.bus.flush()
        await operator.bus.publish(subjects.COMMAND, b'{"command":"start","agent_id":"sleeper"}')
        published = await heard.get()
        await operator.command("status", "sleeper")
        requested = await heard.get()
        await subscription.drain()

    assert (published.status, published.command, published.agent_id) == ("success", "start", "sleeper")
    assert (requested.status, requested.command) == ("success", "status")
    await operator.running("sleeper")


async def test_starting_what_runs_changes_nothing(operator: Operator) -> None:
    before = await operator.start("sleeper")
    first = await operator.command("start", "sleeper", wait=60)
    second = await operator.command("start", "sleeper", wait=60)

    assert first["generation"] == second["generation"]
    assert pids(await operator.get("sleeper")) == pids(before)


async def test_a_hundred_starts_at_once_make_one_process(operator: Operator) -> None:
    await operator.stop("sleeper")
    launches = await _launches(operator, "sleeper")

    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(operator.command("start", "sleeper", wait=60)) for _ in range(100)]

    assert {answer.result()["status"] for answer in answers} == {"running"}
    assert len({answer.result()["generation"] for answer in answers}) == 1
    assert await _launches(operator, "sleeper") == launches + 1
    assert len(pids(await operator.get("sleeper"))) == 1


async def _launches(operator: Operator, agent_id: str) -> int:
    events = await operator.events(agent_id)
    return sum(event["cause"].get("detail", "").startswith("launched as pid") for event in events)


async def test_restart_gives_new_processes_and_starts_what_had_stopped(operator: Operator) -> None:
    before = await operator.start("worker")
    await operator.command("restart", "worker", wait=60)
    after = await operator.get("worker")
    await operator.stop("worker")
    await operator.command("restart", "worker", wait=60)

    assert pids(after) != pids(before)
    assert not exists(*pids(before))
    assert after["instances"][0]["restarts"] == 0  # counts what nobody asked for
    assert (await operator.get("worker"))["status"] == "running"


async def test_scaling_leaves_the_instances_that_stay_alone_and_forgets_those_that_go(operator: Operator) -> None:
    one = await operator.start("sleeper")
    await operator.command("scale", "sleeper", replicas=3, wait=60)
    three = await operator.get("sleeper")
    await operator.command("scale", "sleeper", replicas=1, wait=60)
    again = await operator.until("sleeper", lambda view: len(view["instances"]) == 1)

    assert [instance["id"] for instance in three["instances"]] == ["sleeper-0", "sleeper-1", "sleeper-2"]
    assert len(set(pids(three))) == 3
    assert pids(three)[0] == pids(one)[0] == pids(again)[0]
    assert not any(map(exists, pids(three)[1:]))


async def test_scaling_to_none_ends_all_and_start_means_one_again(operator: Operator) -> None:
    await operator.start("sleeper")
    none = await operator.command("scale", "sleeper", replicas=0, wait=60)
    again = await operator.command("start", "sleeper", wait=60)

    assert none["status"] == "stopped"
    assert again["status"] == "running"
    assert (await operator.get("sleeper"))["replicas"] == 1


async def test_an_agent_that_gets_nowhere_in_time_is_said_to_be_on_its_way(operator: Operator) -> None:
    with pytest.raises(DeadlineExceeded, match="accepted, but 'mute' is still starting after"):
        await operator.command("start", "mute", wait=0.3)

    await operator.stop("mute")


async def test_who_waits_learns_that_another_command_came_between(operator: Operator) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_error_of(operator, "start", "mute", wait=50))
        await operator.until("mute", lambda view: view["status"] == "starting")
        await operator.command("stop", "mute", wait=50)

    assert isinstance(waiting.result(), Conflict)


async def test_an_agent_that_ends_at_once_fails_the_start_with_its_last_words(operator: Operator) -> None:
    error = await _error_of(operator, "start", "broken", wait=60)

    assert isinstance(error, AgentFailed)
    assert "exited with code 3; restart is `never`\none\ntwo" in error.message
    assert "opmas logs broken" in error.hint
    view = await operator.get("broken")
    assert view["status"] == "error"
    assert view["instances"][0]["last_exit"]["exit_code"] == 3
    last = (await operator.events("broken"))[-1]
    assert last["cause"]["last_lines"] == ["one", "two"]


async def _error_of(operator: Operator, command: str, agent_id: str, **params: object) -> Exception:
    with pytest.raises((AgentFailed, Conflict)) as raised:
        await operator.command(command, agent_id, **params)
    return raised.value


async def test_an_unknown_agent_is_answered_with_the_nearest_name(operator: Operator) -> None:
    with pytest.raises(AgentNotFound) as raised:
        await operator.command("start", "worcer")

    assert "did you mean 'worker'?" in raised.value.hint


MISUNDERSTOOD = [
    (b"", "cannot understand the message"),
    (b"{", "cannot understand the message"),
    (b"[" * 100_000, "cannot understand the message"),
    (b'{"command":"start"}', "agent_id: Field required"),
    (
        b'{"command":"dance","agent_id":"worker"}',
        "a command is one of delete, disable, enable, register, reload, restart",
    ),
    (b'{"command":"start","agent_id":"*"}', "ids match"),
    (b'{"command":"start","agent_id":"worker","params":{"wait":-1}}', "wait: Input should be greater than"),
    (b'{"command":"start","agent_id":"worker","params":{"wiat":1}}', "its parameters are: wait"),
    (b'{"command":"scale","agent_id":"worker","params":{"replicas":1.5}}', "replicas"),
]


async def test_what_cannot_be_understood_is_answered_with_what_would_be(operator: Operator) -> None:
    for message, words in MISUNDERSTOOD:
        answer = await operator.bus.request(subjects.COMMAND, message, 60)
        response = Response.model_validate_json(answer.data)

        assert response.error is not None
        assert response.error.code == InvalidRequest.code
        assert words in f"{response.error.message} {response.error.hint}"
        assert answer.headers["Nats-Service-Error-Code"] == InvalidRequest.code


async def test_every_command_is_on_record_with_its_publisher_whatever_it_says_of_itself(
    operator: Operator, shared: Fleet
) -> None:
    forged = {subjects.CLIENT_INFO_HEADER: json.dumps({"name_tag": "root", "user": "U", "issuer_key": "A"})}
    message = {"command": "status", "agent_id": "worker"}

    response = await operator.say(subjects.COMMAND, message, headers=forged | {"x-correlation-id": "abc"})
    await operator.bus.request(
        subjects.COMMAND, b'{"command":"start","agent_id":"worker","params":{"x":"\\u0000"}}', 60
    )

    assert response.status == "success"

    async def recorded() -> list[AuditRow]:
        rows = await audit_of(shared, "worker")
        ours = [number for number, row in enumerate(rows) if row.correlation_id == "abc"]
        return rows[ours[0] : ours[0] + 2] if ours and len(rows) >= ours[0] + 2 else []

    first, second = await until(recorded, "the audit rows")
    assert (first.publisher, first.command, first.outcome) == ("operator:cli", "status", "success")
    assert first.correlation_id == "abc"
    assert (second.publisher, second.outcome, second.error_code) == ("operator:cli", "error", "invalid_request")


async def test_queries_answer_about_the_fleet(operator: Operator) -> None:
    await operator.start("worker")

    listed = await operator.query("list", status="running")
    health = await operator.query("health")
    (node,) = (await operator.query("nodes"))["nodes"]
    status = await operator.query("status", "worker")

    async def sampled() -> bool:
        return bool((await operator.query("metrics", "worker"))["metrics"]["memory_bytes"])

    await until(sampled, "a sample")
    assert "worker" in [view["id"] for view in listed["agents"]]
    assert health["status"] == "ok"
    assert health["checks"] == {"manager": "ok", "nats": "ok", "database": "ok"}
    assert node["status"] == "ready"
    assert status["health"] == "healthy"
    assert status["details"]["last_heartbeat"]
