"""The program as a process of its own, against a real nats-server."""

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

HERE = Path(__file__).parent
NATS_SERVER = Path(sys.executable).with_name("nats-server")


@asynccontextmanager
async def process(*argv: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(*argv, env=env, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(port: int) -> Any:
    return process(NATS_SERVER, "-a", "127.0.0.1", "-p", str(port))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text("first\n")
    return {
        "PATH": os.environ["PATH"],
        "AGENT_ID": "plain-beat",
        "OPMAS_INSTANCE_ID": "plain-beat-0",
        "OPMAS_STATUS_TOKEN_FILE": str(token),
        "NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "BEAT_INTERVAL": "0.05",
    }


async def ignore(_: Exception) -> None:
    """The server is not there yet: the client tries again, until the test's own deadline."""


@asynccontextmanager
async def listening(url: str, subject: str) -> AsyncIterator[Any]:
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore)
    try:
        yield await client.subscribe(subject)
    finally:
        await client.close()


async def heard(subscription: Any) -> dict[str, Any]:
    return dict(json.loads((await subscription.next_msg(timeout=10)).data))


async def test_the_program_beats_with_its_token_as_it_is_now(environment: dict[str, str]) -> None:
    url = environment["NATS_URL"]
    async with (
        asyncio.timeout(20),
        server(int(url.rsplit(":", 1)[1])),
        listening(url, "agent.status") as statuses,
        listening(url, "agent.metrics") as metrics,
        process(sys.executable, HERE / "beat.py", env=environment) as program,
    ):
        first = await heard(statuses)
        assert first["agent_id"] == "plain-beat"
        assert first["instance_id"] == "plain-beat-0"
        assert first["status"] == "running"
        assert first["token"] == "first"  # noqa: S105 - a token of this test
        assert (await heard(metrics))["metrics"]["beats"] >= 1

        await asyncio.to_thread(Path(environment["OPMAS_STATUS_TOKEN_FILE"]).write_text, "second")
        while (await heard(statuses))["token"] != "second":  # noqa: S105 - a token of this test
            pass

        program.terminate()
        while (last := await heard(statuses))["status"] != "stopped":
            pass
        assert last["metadata"]["beats"] >= 1
        assert await program.wait() == 0


async def test_the_program_waits_for_nats_and_comes_back_after_it(environment: dict[str, str]) -> None:
    url = environment["NATS_URL"]
    port = int(url.rsplit(":", 1)[1])
    async with asyncio.timeout(30), process(sys.executable, HERE / "beat.py", env=environment) as program:
        for _ in range(2):  # once for a server that was not there at first, once for one that was killed
            async with server(port), listening(url, "agent.status") as statuses:
                assert (await heard(statuses))["status"] == "running"
        program.terminate()

        assert await program.wait() == 0
