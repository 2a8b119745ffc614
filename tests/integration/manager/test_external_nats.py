"""A manager on somebody else's NATS: with one shared login, with a signing key, and with credentials that expire."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_manager.connection import OwnLogin
from agent_manager.nats import EmbeddedSource, Grant, Role, claims, keys
from agent_manager.nats.account import operator_jwt, system_jwt
from agent_manager.nats.config import binary
from agent_manager.nats.minting import Mint
from agent_manager.settings import ManagerSettings
from opmas.bus import Bus
from tests.integration.manager.fleet import WORKER, Fleet, Operator, pids, until
from tests.node import ManagerProcess, write_package
from tests.node import until as wait_until

PASSWORD = "p@ss/word"


@contextmanager
def nats_server(folder: Path, *words: str | Path) -> Iterator[str]:
    folder.mkdir()
    server = subprocess.Popen(
        [binary(), "-a", "127.0.0.1", "-p", "-1", *words, "--ports_file_dir", folder, "-l", folder / "log"]
    )
    ports = folder / f"nats-server_{server.pid}.ports"
    try:
        wait_until(lambda: ports.exists() and ports.read_text().endswith("}"), "nats-server")
        yield json.loads(ports.read_text())["nats"][0]
    finally:
        server.kill()
        server.wait()


@contextmanager
def manager(root: Path, url: str, **settings: str) -> Iterator[ManagerProcess]:
    one = ManagerProcess(root, url, **settings)
    try:
        yield one
        if one.process is not None:
            assert one.stop() == 0
    finally:
        one.close()


async def test_one_login_shared_by_all_works_and_is_warned_of(tmp_path: Path) -> None:
    with (
        nats_server(tmp_path / "nats", "--user", "fleet", "--pass", PASSWORD) as url,
        manager(tmp_path, url, OPMAS_NATS__USER="fleet", OPMAS_NATS__PASSWORD=PASSWORD) as one,
    ):
        write_package(one.packages, "worker", WORKER)
        one.start()
        async with await Bus.connect(url, name="test", user="fleet", password=PASSWORD) as bus:
            operator = Operator(bus)
            await operator.running("worker")
            await operator.stop("worker")

        log = one.log.read_text()
    assert "nats_user_shared" in log
    assert PASSWORD not in log


async def test_a_signing_key_gives_each_agent_a_user_of_its_own_beside_the_manager_s_credentials(
    tmp_path: Path,
) -> None:
    ring = keys.load_or_create(tmp_path / "somebody")
    mint = Mint(ring.account.public, dict.fromkeys(Role, ring.signers[Role.AGENT]), scoped=False)
    config = _operator_mode(tmp_path, ring, ring.signers[Role.AGENT].public)
    seed, mine, cli = tmp_path / "signing.nk", tmp_path / "manager.creds", tmp_path / "cli.creds"
    seed.write_text(ring.signers[Role.AGENT].seed)
    mine.write_text(mint.mint(Grant(Role.MANAGER, "here")).text)
    cli.write_text(mint.mint(Grant(Role.OPERATOR, "cli")).text)
    settings = {
        "OPMAS_NATS__CREDS": str(mine),
        "OPMAS_NATS__SIGNING_KEY": str(seed),
        "OPMAS_NATS__ACCOUNT": ring.account.public,
        "OPMAS_MANAGER__NODE": "here",
    }
    with nats_server(tmp_path / "nats", "-c", config) as url, manager(tmp_path, url, **settings) as one:
        write_package(one.packages, "worker", WORKER)
        one.start()
        async with await Bus.connect(url, name="test", creds=cli) as bus:
            operator = Operator(bus)
            await operator.running("worker")
            creds = one.home / "run" / "worker" / "0" / "creds"
            assert "USER JWT" in creds.read_text()
            await operator.stop("worker")
            assert not creds.exists()

        assert "nats_user_shared" not in one.log.read_text()


def _operator_mode(folder: Path, ring: keys.Keys, signer: str) -> Path:
    """Configure a server as its owner would who gives us an account with one plain signing key."""
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    about = {"type": "account", "limits": {**limits, "wildcards": True}, "signing_keys": [signer]}
    account = claims.encode(ring.operator, ring.account.public, "THEIRS", about)  # type: ignore[arg-type]  # JSON
    config = folder / "theirs.conf"
    config.write_text(
        f"operator: {operator_jwt(ring)}\nsystem_account: {ring.system.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {ring.account.public}: {account}, {ring.system.public}: {system_jwt(ring)} }}\n"
    )
    return config


async def test_a_manager_that_comes_before_its_nats_finds_it(own: Fleet) -> None:
    await own.server.stop()
    own.package("process", command=["sleep", "1000"], heartbeat="process")
    own.manager.start(listening=False)
    await until(lambda: _said(own, "waiting_for_nats"), "the manager to wait")
    await own.server.start()

    async with own.operator() as operator:
        await until(lambda: _said(own, '"listening"'), "the manager to listen")
        assert pids(await operator.running("process"))


async def _said(fleet: Fleet, words: str) -> bool:
    return words in fleet.manager.log.read_text()


async def test_the_manager_renews_its_own_credentials_before_they_expire(own: Fleet) -> None:
    ring = keys.load(own.home)
    async with EmbeddedSource(own.home, own.server.url) as source:
        source._mint = Mint(ring.account.public, ring.signers, life_s=3.0)  # a day would be long
        login = OwnLogin(ManagerSettings(home=own.home), source)
        async with await login.connect() as bus, asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(login.keep())
            await until(lambda: _lost(bus), "the server to end a connection whose credentials have expired")
            await bus.flush(30)  # it lets us in again with those renewed meanwhile
            keeping.cancel()


async def _lost(bus: Bus) -> bool:
    return bus.outages > 0
