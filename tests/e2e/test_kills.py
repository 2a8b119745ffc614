"""Whatever is killed comes back, takes nothing along that could live on, and leaves nothing behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.node import OPMAS, ManagerProcess, Node, exists, kill, processes_of, until, write_package

STEADY = """
    import asyncio
    import subprocess

    from opmas.agent import Agent, on


    class Worker(Agent):
        async def start(self):
            # A child in a session of its own, which no signal to the group would reach.
            subprocess.Popen(["sleep", "7777"], start_new_session=True)
            self.spawn(self.count())

        async def count(self):
            number = 0
            while True:
                print(f"number {number}", flush=True)
                number += 1
                await asyncio.sleep(0.005)

        @on("events.ping")
        async def ping(self, message):
            await self.publish("events.pong", self.instance_id)
"""
BEATING = {"interval": 1, "timeout": 2}
LISTENING = {"subjects": {"subscribe": ["events.ping"], "publish": ["events.pong"]}}


def write_fleet(packages: Path) -> None:
    write_package(packages, "steady", STEADY, heartbeat=BEATING, permissions=LISTENING)
    write_package(packages, "pair", STEADY, replicas=2, heartbeat=BEATING, permissions=LISTENING)
    write_package(packages, "shell", runtime="exec", command=["sleep", "8888"], heartbeat="process")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose parts are killed one after the other; every test leaves it running."""
    one = Node(tmp_path_factory.mktemp("fleet"))
    write_fleet(one.packages)
    try:
        one.up().running("steady", "pair", "shell")
        yield one
    finally:
        one.close()


def pids(node: Node) -> dict[str, int]:
    return node.running("steady", "pair", "shell")


def slot_processes(node: Node, instance_id: str) -> set[int]:
    agent_id, _, ordinal = instance_id.rpartition("-")
    slot = str(node.home / "run" / agent_id / ordinal)
    return {pid for pid in node.processes() if f"OPMAS_SLOT={slot}" in environ(pid) or holds(pid, f"{slot}/lock")}


def environ(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def holds(pid: int, path: str) -> bool:
    try:
        return any(os.readlink(fd) == path for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def came_back(node: Node, agent_id: str, former: dict[str, int]) -> dict[str, int]:
    """Wait until every instance of the agent runs as another process."""

    def new() -> dict[str, int]:
        found = {i["id"]: i["pid"] for i in node.instances(agent_id) if i["status"] == "running" and i["pid"]}
        same = any(former.get(name) == pid for name, pid in found.items())
        return {} if same or not exists(next(iter(found.values()), 0)) else found

    return until(new, f"another process of {agent_id}")


def test_a_killed_instance_is_back_as_a_new_process_and_counted(fleet: Node) -> None:
    before = fleet.running("steady")
    others = fleet.running("pair", "shell")
    restarts = fleet.instances("steady")[0]["restarts"]

    kill(before["steady-0"])
    after = came_back(fleet, "steady", before)

    view = fleet.instances("steady")[0]
    assert view["restarts"] == restarts + 1
    assert view["last_exit"]["signal"] == signal.SIGKILL
    assert fleet.running("pair", "shell") == others
    until(lambda: len(slot_processes(fleet, "steady-0")) == 3, "shim, instance and its child, and none of the former")
    assert after["steady-0"] in slot_processes(fleet, "steady-0")


def test_a_killed_template_is_missed_by_nobody_and_replaced(fleet: Node) -> None:
    before = pids(fleet)
    template = next(pid for pid, words in fleet.processes().items() if words.startswith("opmas: template"))

    kill(template)

    until(lambda: not exists(template))
    assert pids(fleet) == before
    assert fleet.cli("restart", "steady").returncode == 0
    assert fleet.running("steady")["steady-0"] != before["steady-0"]


def test_a_killed_shim_takes_its_instance_and_all_it_started_along(fleet: Node) -> None:
    before = fleet.running("steady")
    former = slot_processes(fleet, "steady-0")
    shim = psutil.Process(before["steady-0"]).ppid()
    assert len(former) == 3

    kill(shim)
    came_back(fleet, "steady", before)

    until(lambda: not any(exists(pid) for pid in former), "the end of what the former shim had started")


async def test_a_killed_nats_server_is_back_on_its_port_and_its_absence_is_nobodys_death(fleet: Node) -> None:
    before, server = pids(fleet), fleet.pid("nats-server")
    url = json.loads((fleet.home / "up.json").read_text())["nats_url"]
    last_event = fleet.api("GET", "/api/v1/events?limit=1")[1]["next"]

    assert fleet.process is not None
    kill(fleet.process.pid, signal.SIGSTOP)  # so that nobody restarts it, for longer than anybody may be silent
    kill(server)
    await asyncio.sleep(2.5 * BEATING["timeout"])
    kill(fleet.process.pid, signal.SIGCONT)
    until(lambda: fleet.pid("nats-server") != server, "another nats-server")

    assert json.loads((fleet.home / "up.json").read_text())["nats_url"] == url
    client = await fleet.nats()
    try:
        heard: set[str] = set()
        pongs = await client.subscribe("events.pong")

        async def ping() -> bool:
            await client.publish("events.ping", b"")
            await client.flush(60)
            while pongs.pending_msgs:
                heard.add((await pongs.next_msg()).data.decode())
            return {"steady-0", "pair-0", "pair-1"} <= heard

        async with asyncio.timeout(60):
            while not await ping():  # noqa: ASYNC110 - nobody announces that they have reconnected
                await asyncio.sleep(0.05)
    finally:
        await client.close()
    assert pids(fleet) == before
    until(lambda: fleet.api("GET", "/readyz")[0] == 200, "the API to have its manager")
    seen = fleet.api("GET", f"/api/v1/events?after={last_event}&limit=1000")[1]["events"]
    assert not [str(event) for event in seen if event.get("status") in {"inactive", "error"}]


def test_a_killed_api_is_back_and_nobody_else_noticed(fleet: Node) -> None:
    before, api, manager = pids(fleet), fleet.pid("api"), fleet.pid("manager")

    kill(api)

    until(lambda: fleet.pid("api") != api, "another API")
    assert pids(fleet) == before
    assert fleet.pid("manager") == manager


def test_a_killed_manager_is_replaced_by_one_that_adopts_and_followers_of_logs_miss_nothing(
    fleet: Node, tmp_path: Path
) -> None:
    before, manager = pids(fleet), fleet.pid("manager")
    with (tmp_path / "followed").open("wb") as out:
        command = [OPMAS, "logs", "-f", "-n", "1", "steady", "pair"]
        follower = subprocess.Popen(command, env=fleet.environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: followed(tmp_path).keys() == {"steady-0", "pair-0", "pair-1"}, "the follower to begin")
        kill(manager)
        until(lambda: fleet.pid("manager") != manager, "another manager")
        assert pids(fleet) == before
        seen = {instance: numbers[-1] for instance, numbers in followed(tmp_path).items()}
        until(lambda: all(numbers[-1] > seen[i] for i, numbers in followed(tmp_path).items()), "the follower to go on")
        follower.send_signal(signal.SIGINT)
        follower.wait(60)
    finally:
        follower.kill()
        follower.wait()

    for numbers in followed(tmp_path).values():
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert fleet.cli("stop", "shell").returncode == 0  # the new manager's to end, as if it had started it
    assert not exists(before["shell-0"])
    assert fleet.cli("start", "shell").returncode == 0


def followed(folder: Path) -> dict[str, list[int]]:
    """Read what `opmas logs -f` has written: the numbers by instance."""
    found: dict[str, list[int]] = {}
    for line in (folder / "followed").read_text().splitlines(keepends=True):
        if match := re.fullmatch(r"(\S+) .* number (\d+)\n", line):
            found.setdefault(match[1], []).append(int(match[2]))
    return found


def test_a_manager_that_was_frozen_takes_nobody_for_dead(fleet: Node) -> None:
    before, manager = pids(fleet), fleet.pid("manager")
    last_event = fleet.api("GET", "/api/v1/events?limit=1")[1]["next"]

    kill(manager, signal.SIGSTOP)
    time.sleep(2.5 * BEATING["timeout"])  # longer than anybody may be silent: this is a test of time
    kill(manager, signal.SIGCONT)
    time.sleep(BEATING["timeout"])

    assert pids(fleet) == before
    assert fleet.pid("manager") == manager
    seen = fleet.api("GET", f"/api/v1/events?after={last_event}&limit=1000")[1]["events"]
    assert not [str(event) for event in seen if event.get("status") == "inactive"]


def test_ten_killed_managers_cost_no_process_and_no_line(root: Path, nats_url: str) -> None:
    manager = ManagerProcess(root, nats_url)
    write_fleet(manager.packages)
    try:
        manager.start()
        states = {name: root / "home" / "run" / name / "0" / "state" for name in ("steady", "shell")}
        until(lambda: all(path.exists() for path in states.values()), "both to be started")
        before = {name: json.loads(path.read_text()) for name, path in states.items()}
        for number in range(10):
            manager.kill()
            # Every other one dies before it is ready.
            manager.start(listening=number % 2 == 0)

        until(lambda: "adopted" in manager.log.read_text())
        assert {name: json.loads(path.read_text()) for name, path in states.items()} == before
        assert all(exists(state["pid"]) for state in before.values())
    finally:
        manager.close()
    assert "number 0" in lines_in(root / "home" / "run" / "steady" / "0")
    numbers = lines_in(root / "home" / "run" / "steady" / "0")
    assert [line for line in numbers if line.startswith("number")] == [f"number {n}" for n in range(len(numbers))]


def test_what_a_shim_left_that_died_while_no_manager_lived_is_swept_by_the_next(root: Path, nats_url: str) -> None:
    manager = ManagerProcess(root, nats_url)
    write_package(manager.packages, "steady", STEADY)
    state = root / "home" / "run" / "steady" / "0" / "state"

    def strays() -> list[int]:
        return [pid for pid, words in processes_of(root / "home").items() if words.startswith("sleep 7777")]

    try:
        manager.start()
        first = until(strays, "the instance's child")
        manager.kill()
        kill(json.loads(state.read_text())["shim_pid"])
        until(lambda: not exists(json.loads(state.read_text())["pid"]), "the instance to go with its shim")
        assert strays() == first
        manager.start()

        assert not exists(first[0])
        until(strays, "the next instance's child")
        assert manager.stop() == 0
        assert not processes_of(root / "home")
    finally:
        manager.close()


def lines_in(slot: Path) -> list[str]:
    files = sorted(slot.glob("log*"), key=lambda path: -int(path.suffix[1:] or 0))
    return [json.loads(line)["l"] for file in files for line in file.read_text().splitlines()]


def test_a_new_up_adopts_what_a_killed_up_left_and_ctrl_c_ends_it_all(root: Path) -> None:
    node = Node(root)
    write_fleet(node.packages)
    node.up()
    before, server, manager, api = pids(node), node.pid("nats-server"), node.pid("manager"), node.pid("api")

    node.kill_up()
    until(lambda: not exists(manager) and not exists(api), "the servers to die with `opmas up`")
    assert all(exists(pid) for pid in (*before.values(), server))
    node.up()

    assert pids(node) == before
    assert node.pid("nats-server") == server
    written = json.loads(node.cli("logs", "steady", "-n", "10000", "--json").stdout)["lines"]
    assert [line["line"] for line in written] == [f"number {number}" for number in range(len(written))]
    assert node.process is not None
    node.process.send_signal(signal.SIGINT)
    assert node.reap() == 0
    assert not node.processes()


def test_a_node_whose_files_were_torn_by_a_power_loss_comes_up_again(root: Path) -> None:
    node = Node(root)
    write_fleet(node.packages)
    node.up()
    pids(node)
    for pid in node.processes():
        with contextlib.suppress(ProcessLookupError):  # it went with one of the others
            kill(pid)
    node.reap()
    until(lambda: not node.processes(), "the end of all")
    records = ("run/*/*/*", "*.lock", "up.json", "nats/lock", "nats/*.pid", "nats/*.ports", "nats/*.creds")
    for record in (path for pattern in records for path in node.home.glob(pattern) if path.is_file()):
        record.write_bytes(b"\0" * 100)

    node.up()

    pids(node)
    assert "number 0" in node.lines("steady", 10_000)
    assert node.down().returncode == 0
    assert not node.processes()


def test_down_ends_what_a_killed_up_left(root: Path) -> None:
    node = Node(root)
    write_fleet(node.packages)
    node.up()
    before = pids(node)
    node.kill_up()
    kill(psutil.Process(before["steady-0"]).ppid())  # a shim: what its instance had started is nobody's now

    ended = node.cli("down")

    assert ended.returncode == 0, ended.stderr
    assert not node.processes()
    assert node.cli("down").returncode == 3
