"""The second port: the run contract at its root, probes for anybody, and nothing else."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.integration.api.peer import Peer
from tests.integration.api.server import Server, environment, running


async def test_probes_are_open_to_all_and_say_what_existing_clients_read(api: Server, peer: Peer) -> None:
    async with httpx2.AsyncClient(base_url=api.agentos_url, trust_env=False) as stranger:
        health, ready = await stranger.get("/health"), await stranger.get("/ready")

    assert (health.status_code, set(health.json())) == (
        200, {"status", "version", "instantiated_at", "registered_agents"},
    )  # fmt: skip
    assert (health.json()["status"], health.json()["registered_agents"]) == ("ok", 1)
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "version": health.json()["version"]})


async def test_it_is_alive_but_not_ready_while_nats_is_away(tmp_path: Path) -> None:
    with running(tmp_path / "api", "nats://127.0.0.1:1") as api:
        async with httpx2.AsyncClient(base_url=api.agentos_url, trust_env=False) as stranger:
            health, ready = await stranger.get("/health"), await stranger.get("/ready")

    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "NATS" in ready.json()["reason"]


async def test_it_leads_to_runs_with_and_without_the_prefix_and_the_other_port_only_with(
    api: Server, http: httpx2.AsyncClient, peer: Peer
) -> None:
    paths = ("/agents/echo/runs", "/api/v1/agents/echo/runs")

    async def asked(url: str) -> list[int]:
        return [(await http.post(url + path, json={"message": "x"})).status_code for path in paths]

    assert await asked(api.agentos_url) == [202, 202]
    assert await asked(api.url) == [404, 202]


@pytest.mark.parametrize(
    "path", ["/", "/agents", "/agents/echo", "/docs", "/metrics", "/readyz", "/api", "//agents/x/runs"]
)
async def test_nothing_else_is_there(api: Server, http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(api.agentos_url + path)

    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert answer.json()["correlationId"] == answer.headers["x-correlation-id"]


async def test_runs_are_asked_with_credentials_there_too(api: Server, http: httpx2.AsyncClient) -> None:
    del http.headers["Authorization"]
    answer = await http.post(f"{api.agentos_url}/agents/echo/runs", json={"message": "x"})

    assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")


def test_it_can_be_switched_off_by_the_name_already_in_use(tmp_path: Path) -> None:
    with running(tmp_path / "api", "nats://127.0.0.1:1", AGENTOS_ENABLED="false") as api:
        assert api.agentos_url == ""


def test_a_port_that_is_taken_is_named_with_its_setting(api: Server, tmp_path: Path) -> None:
    taken = api.agentos_url.rpartition(":")[2]

    ended = subprocess.run(
        [sys.executable, "-m", "management_api"],
        env=environment(tmp_path, OPMAS_API__PORT="0", AGENTOS_PORT=taken),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in ended.stderr
    assert "OPMAS_API__AGENTOS_PORT" in ended.stderr
