"""The API while managers or NATS are away, at its start and at its end."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.integration.api.peer import serving
from tests.integration.api.server import Server, environment, running

NATS_SERVER = Path(sys.executable).with_name("nats-server")


async def test_without_a_manager_every_route_says_so_at_once(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(3):
        answers = [
            await http.get("/api/v1/agents"),
            await http.get("/api/v1/agents/echo/logs"),
            await http.get("/readyz"),
            await http.post("/api/v1/agents/echo/start", params={"wait": 600}),
        ]

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert {answer.json()["error"] for answer in answers[:3]} == {"manager_unavailable"}
    assert answers[3].json()["error"]["code"] == "manager_unavailable"
    assert "opmas" in answers[3].json()["error"]["hint"]


async def test_health_is_200_while_nothing_else_is_well(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/health")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["parts"]["nats"] == "ok"
    assert "none is listening" in answer.json()["parts"]["manager"]


@contextmanager
def nats_server(port: int, folder: Path) -> Iterator[None]:
    server = subprocess.Popen([NATS_SERVER, "-a", "127.0.0.1", "-p", str(port), "-l", folder / "nats.log"])
    try:
        yield
    finally:
        server.kill()
        server.wait()


async def test_the_api_finds_a_nats_that_comes_late_goes_and_comes_back(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    with running(tmp_path, url) as api:
        async with httpx2.AsyncClient(base_url=api.url, headers=api.headers, trust_env=False) as http:
            assert (await http.get("/health")).json()["parts"]["nats"] == "unreachable"
            assert (await http.get("/api/v1/agents")).status_code == 503
            for _ in range(2):
                with nats_server(port, tmp_path):
                    async with serving(url):
                        await _until(http, "/readyz", 200)
                        assert (await http.get("/api/v1/agents")).json()["total"] == 1
                await _until(http, "/readyz", 503)


async def _until(http: httpx2.AsyncClient, path: str, status: int) -> None:
    async with asyncio.timeout(15):
        while True:
            if (await http.get(path)).status_code == status:
                return
            await asyncio.sleep(0.05)


async def test_sigterm_ends_the_api_in_order_even_while_a_caller_waits(tmp_path: Path, nats_url: str) -> None:
    with running(tmp_path, nats_url) as api:
        async with serving(nats_url) as peer, httpx2.AsyncClient(headers=api.headers, timeout=20) as http:
            peer.answers["start"] = None
            await _until(http, f"{api.url}/readyz", 200)
            peer.arrived.clear()
            waiting = asyncio.create_task(http.post(f"{api.url}/api/v1/agents/echo/start?wait=600"), name="caller")
            async with asyncio.timeout(5):
                await peer.arrived.wait()
            api.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                code = await asyncio.to_thread(api.process.wait)
            await asyncio.gather(waiting, return_exceptions=True)

    assert code == 0


# --- starting -------------------------------------------------------------------------------------------------------


def start(home: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run an API that is expected to give up, and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "management_api"],
        env=environment(home, **{"OPMAS_API__AGENTOS_PORT": "0", **settings}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_taken_port_is_an_error_that_names_the_setting(api: Server, tmp_path: Path) -> None:
    port = api.url.rpartition(":")[2]

    ended = start(tmp_path, OPMAS_API__PORT=port)

    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "OPMAS_API__PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_setting_is_named_without_a_traceback(tmp_path: Path) -> None:
    ended = start(tmp_path, OPMAS_API__PRT="1")

    assert ended.returncode == 1
    assert "OPMAS_API__PRT" in ended.stderr
    assert "OPMAS_API__PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_names_without_effect_are_warned_about(tmp_path: Path, nats_url: str) -> None:
    with running(tmp_path, nats_url, REDIS_URL="redis://x") as api:
        said = api.log.read_text()  # the warnings come before `listening`

    assert "REDIS_URL has no effect" in said
