"""The production shape: servers as docker-compose.yml starts them, a NATS server with a password, PostgreSQL."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opmas.bus import Bus
from opmas.bus.client import SafeClient
from opmas.wire.errors import PermissionDenied
from tests.conftest import NATS_SERVER
from tests.integration.deploy.compose import SECRETS, Compose, Machine, nats_configuration, nats_environment
from tests.node import OPMAS, until, write_package

WORKER = """
    from opmas.agent import Agent


    class Worker(Agent):
        pass
"""


@pytest.fixture
def machine(tmp_path: Path, postgres_url: str, free_port: Callable[[], int]) -> Iterator[Machine]:
    """Run the NATS server of deploy/nats.conf and name the places of everything else."""
    port, monitor, api = free_port(), free_port(), free_port()
    write_package(tmp_path / "packages", "worker", WORKER)
    compose = Compose(SECRETS)
    url = compose.service("manager")["environment"]["OPMAS_DATABASE__URL"]
    places = {
        url: postgres_url,
        "nats://nats:4222": f"nats://127.0.0.1:{port}",
        "127.0.0.1:8222": f"127.0.0.1:{monitor}",
        "127.0.0.1:8000": f"127.0.0.1:{api}",
        "8000": str(api),
        "7777": str(free_port()),
        "0.0.0.0": "127.0.0.1",  # noqa: S104  # nothing is bound: it is what is replaced
    }
    with (tmp_path / "nats.log").open("wb") as log:
        server = subprocess.Popen(
            [NATS_SERVER, "--config", nats_configuration(tmp_path, port, monitor)],
            env=nats_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        yield Machine(compose, tmp_path, tmp_path / "packages", places)
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def running(machine: Machine, *services: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    started = [machine.run(service) for service in services]
    try:
        yield started
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(60)


def cli(machine: Machine, *words: str) -> str:
    done = subprocess.run(
        [OPMAS, *words],
        env=machine.environment("api"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(machine: Machine) -> str:
    return "\n".join(machine.log(name).read_text() for name in ("manager", "api", "nats"))


def test_the_servers_of_the_compose_file_run_agents_on_postgresql_and_a_nats_server_with_a_password(
    machine: Machine,
) -> None:
    with running(machine, "manager", "api") as (manager, api):
        until(lambda: machine.is_healthy("manager"), "a healthy manager")
        until(lambda: machine.is_healthy("api"), "a healthy API")

        assert "running" in cli(machine, "wait", "worker", "--timeout", "60") + cli(machine, "ls")
        cli(machine, "restart", "worker", "--wait", "60")
        assert "shared" in said(machine), "one user for all agents is worth a warning"
        for secret in SECRETS.values():
            assert secret not in said(machine)

        manager.send_signal(signal.SIGTERM)
        assert manager.wait(60) == 0
        assert machine.check("manager").returncode == 1
        assert machine.is_healthy("api"), "an API without a manager is no reason to replace the API"
        api.send_signal(signal.SIGTERM)
        assert api.wait(60) == 0
    assert not (machine.log("manager").parent / "manager" / "manager.db").exists()


async def test_the_nats_server_of_the_compose_file_admits_nobody_without_the_password(machine: Machine) -> None:
    url = machine.here("nats://nats:4222")
    until(lambda: "Server is ready" in machine.log("nats").read_text(), "nats-server")

    for user, password in ((None, None), ("opmas", "wrong")):
        with pytest.raises(PermissionDenied):
            await Bus.connect(url, name="stranger", user=user, password=password)
    client = SafeClient()
    await client.connect(url, user="opmas", password=SECRETS["OPMAS_NATS_PASSWORD"])
    assert (await client.jetstream().account_info()).streams == 0
    await client.close()


@pytest.mark.skipif(not os.access("/usr/bin/wget", os.X_OK), reason="the NATS image has wget; this machine has not")
def test_the_health_check_of_nats_asks_where_nats_listens(machine: Machine) -> None:
    until(lambda: machine.is_healthy("nats"), "a healthy nats-server")
