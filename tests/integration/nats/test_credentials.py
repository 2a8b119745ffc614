import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nats.errors
import pytest

from agent_manager.nats import EmbeddedServer, EmbeddedSource, Grant, Role, SharedSource, SigningKeySource, keys
from agent_manager.nats.config import binary
from agent_manager.nats.minting import Mint
from agent_manager.nats.sources import Login
from opmas.wire.errors import InvalidRequest, PermissionDenied

Join = Callable[..., Awaitable]
Visit = Callable[[Login], Awaitable]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def is_refused(visit: Visit, login: Login) -> bool:
    try:
        await visit(login)
    except nats.errors.Error:
        return True
    return False


async def test_credentials_expire(server: EmbeddedServer, tmp_path: Path, visit: Visit, until: Until) -> None:
    ring = keys.load(tmp_path)
    credentials = Mint(ring.account.public, ring.signers, life_s=1.0).mint(Grant(Role.AGENT, "a", "a-0"))
    path = tmp_path / "short.creds"
    path.write_text(credentials.text)
    login = Login(server.url, path, "_INBOX.agent.a-0")
    guest = await visit(login)

    await until(lambda: not guest.client.is_connected)

    async with asyncio.timeout(10):  # the second in which it expires is its last
        while not await is_refused(visit, login):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)


async def test_renewed_credentials_are_the_same_users_and_live_longer(
    source: EmbeddedSource, tmp_path: Path, visit: Visit
) -> None:
    grant, path = Grant(Role.AGENT, "a", "a-0"), tmp_path / "a.creds"
    first = await source.issue(grant, path)
    await asyncio.sleep(1.01)  # tokens count whole seconds

    second = await source.renew(grant, path)

    assert second.user == first.user
    assert second.expires_at > first.expires_at > first.renew_at
    assert path.stat().st_mode & 0o777 == 0o600
    assert not await is_refused(visit, second)
    path.write_text("broken")
    assert (await source.renew(grant, path)).user != first.user


async def test_revocation_puts_out_one_user_for_good(
    server: EmbeddedServer, source: EmbeddedSource, join: Join, visit: Visit, until: Until, tmp_path: Path
) -> None:
    a, b, c = await join("a"), await join("b"), await join("c")
    stolen = tmp_path / "stolen.creds"
    stolen.write_bytes(a.login.creds.read_bytes())

    await source.revoke(a.login)
    await source.revoke(b.login)  # within the same second: nats-server must take both

    await until(lambda: not a.client.is_connected and not b.client.is_connected)
    await c.settle()
    assert not a.login.creds.exists()
    assert await is_refused(visit, replace(a.login, creds=stolen))
    await server.stop()
    await server.start()
    assert await is_refused(visit, replace(a.login, creds=stolen))
    assert not await is_refused(visit, c.login)


async def test_withdrawal_closes_the_connection_and_takes_the_file(
    source: EmbeddedSource, join: Join, until: Until
) -> None:
    a, b = await join("a"), await join("b")

    await source.withdraw(a.login)

    await until(lambda: not a.client.is_connected)
    assert not a.login.creds.exists()
    await b.settle()
    await source.withdraw(a.login)  # twice does no harm


async def test_withdrawal_while_the_server_is_down_only_takes_the_file(
    server: EmbeddedServer, source: EmbeddedSource, tmp_path: Path
) -> None:
    login = await source.issue(Grant(Role.AGENT, "a", "a-0"), tmp_path / "a.creds")
    await server.stop()

    await source.withdraw(login)

    assert not (tmp_path / "a.creds").exists()


@pytest.mark.parametrize("name", ["*", ">", "a.b", "a b", "A", "", "manager", "a\n"])
async def test_a_name_that_reaches_beyond_itself_is_refused(source: EmbeddedSource, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot make credentials"):
        await source.issue(Grant(Role.AGENT, name, "a-0"), tmp_path / "x.creds")
    assert not (tmp_path / "x.creds").exists()


async def test_a_subject_of_another_agent_is_refused(source: EmbeddedSource, tmp_path: Path) -> None:
    with pytest.raises(PermissionDenied, match=r"agent\.b\.command"):
        await source.issue(Grant(Role.AGENT, "a", "a-0", subscribe=("agent.b.command",)), tmp_path / "x.creds")


async def test_a_signing_key_of_an_external_account_gives_each_agent_its_own_user(
    server: EmbeddedServer, tmp_path: Path, visit: Visit
) -> None:
    """The embedded server stands in for a stranger's: the account's own key signs like any unscoped one."""
    ring = keys.load(tmp_path)
    seed = tmp_path / "account.nk"
    seed.write_text(ring.account.seed)
    async with SigningKeySource(server.url, account=ring.account.public, seed_file=seed) as source:
        login = await source.issue(Grant(Role.AGENT, "a", "a-0", publish=("findings.x",)), tmp_path / "a.creds")
        guest = await visit(login)
        for subject in ("findings.x", "agent.a.status", "_INBOX.manager.x"):
            await guest.client.publish(subject, b"")
        await guest.client.subscribe("_INBOX.agent.a-0.>")
        assert not await guest.refused()
        await guest.client.publish("agent.b.status", b"")
        await guest.client.subscribe("agent.b.command")

    assert len(await guest.refused()) == 2
    assert not source.warning


async def test_a_signing_key_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    seed = tmp_path / "key"
    seed.write_text("SUXXX")

    with pytest.raises(InvalidRequest, match=r"cannot read nats\.signing_key"):
        SigningKeySource("nats://x", account="A" * 56, seed_file=seed)


@pytest.fixture
def password_server(tmp_path: Path) -> Iterator[str]:
    login = ("--user", "fleet", "--pass", "p@ss/word")
    server = subprocess.Popen(
        [binary(), "-a", "127.0.0.1", "-p", "-1", *login, "--ports_file_dir", tmp_path], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    ports = tmp_path / f"nats-server_{server.pid}.ports"
    while time.monotonic() < deadline and (not ports.exists() or not ports.read_text()):
        time.sleep(0.01)
    yield json.loads(ports.read_text())["nats"][0]
    server.kill()
    server.wait()


async def test_a_shared_login_works_and_warns(password_server: str, tmp_path: Path, visit: Visit) -> None:
    async with SharedSource(password_server, user="fleet", password="p@ss/word") as source:
        login = await source.issue(Grant(Role.AGENT, "a", "a-0"), tmp_path / "unused")

    await (await visit(login)).settle()

    assert "shares one NATS user" in source.warning
    assert "p@ss" not in source.warning + repr(login) + source.url
    assert login.environment() == {
        "NATS_URL": password_server.replace("//", "//fleet:p%40ss%2Fword@"),
        "NATS_INBOX_PREFIX": "_INBOX.agent.a-0",
        "NATS_USER": "fleet",
        "NATS_PASSWORD": "p@ss/word",
    }
    assert not (tmp_path / "unused").exists()
