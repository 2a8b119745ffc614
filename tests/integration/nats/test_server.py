import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent_manager.nats import EmbeddedServer, NatsServerFailed, keys
from opmas.wire.errors import Conflict

Join = Callable[..., Awaitable]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_a_killed_server_comes_back_where_its_clients_find_it(
    server: EmbeddedServer, join: Join, until: Until
) -> None:
    agent = await join("a", reconnect=True)
    url, pid = server.url, server.pid

    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await server.wait_death()
    await server.start()

    assert (server.url, server.pid != pid) == (url, True)
    await until(lambda: agent.client.is_connected)
    await agent.client.publish("agent.a.status", b"")
    assert not await agent.refused()


async def test_a_server_says_whether_it_is_well_and_a_dead_one_says_nothing(server: EmbeddedServer) -> None:
    assert await server.ailment() == ""

    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await server.wait_death()

    with pytest.raises(OSError, match="refused"):
        await server.ailment()


async def test_a_living_server_is_adopted_whatever_port_is_wanted(server: EmbeddedServer, tmp_path: Path) -> None:
    other = EmbeddedServer(tmp_path, port=1)

    await other.start()

    assert (other.url, other.pid) == (server.url, server.pid)
    async with asyncio.timeout(10):
        await other.stop()
        await server.wait_death()
    assert not await EmbeddedServer(tmp_path).adopt()


async def test_many_starters_get_one_server(tmp_path: Path) -> None:
    starters = [EmbeddedServer(tmp_path, port=0) for _ in range(4)]

    await asyncio.gather(*(starter.start() for starter in starters))

    assert len({starter.pid for starter in starters}) == 1
    await starters[0].stop()
    async with asyncio.timeout(10):
        await asyncio.gather(*(starter.wait_death() for starter in starters))


async def test_a_server_outlives_a_killed_starter(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, os, signal, pathlib\n"
        "from agent_manager.nats import EmbeddedServer\n"
        "asyncio.run(EmbeddedServer(pathlib.Path(sys.argv[1]), port=0).start())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    starter = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30
    )
    assert starter.returncode == -signal.SIGKILL
    server = EmbeddedServer(tmp_path)

    assert await server.adopt()

    await server.stop()


async def test_a_taken_port_is_an_error_that_names_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(Conflict, match=rf"cannot listen on 127.0.0.1:{port}: .*pid {os.getpid()} \(") as refused:
            await EmbeddedServer(tmp_path, port=port).start()

    assert "OPMAS_NATS__PORT" in refused.value.hint
    server = EmbeddedServer(tmp_path, port=port)  # and it starts once the port is free
    await server.start()
    assert server.url == f"nats://127.0.0.1:{port}"
    await server.stop()


async def test_a_server_that_does_not_start_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken-server"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 7\n")
    broken.chmod(0o700)
    monkeypatch.setenv("OPMAS_NATS_SERVER", str(broken))

    with pytest.raises(NatsServerFailed, match=r"(?s)it ended with code 7.*no such luck"):
        await EmbeddedServer(tmp_path, port=0).start()

    monkeypatch.setenv("OPMAS_NATS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(Conflict, match="cannot find nats-server"):
        await EmbeddedServer(tmp_path, port=0).start()


async def test_a_server_that_ignores_the_signal_is_killed(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)

    async with asyncio.timeout(10):
        await server.stop(grace_s=0.1)

    assert not await server.adopt()


async def test_the_home_is_closed_to_other_users_and_keys_outlive_the_server(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    before = keys.load(tmp_path).account.public

    await server.stop()
    await server.start()

    assert keys.load(tmp_path).account.public == before
    for path in (tmp_path / "nats", keys.seeds_path(tmp_path), tmp_path / "nats" / "server.conf"):
        assert path.stat().st_mode & 0o077 == 0
