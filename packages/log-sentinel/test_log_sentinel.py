"""The ledger by itself, the agent in the harness, and the durable agent as a process that is killed."""

import asyncio
import importlib
import importlib.util
import json
import os
import re
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import nats
import pytest

from opmas.agent.testing import AgentHarness
from opmas.wire.manifest import parse_manifest, validate_config

HERE = Path(__file__).parent
MANIFEST = parse_manifest((HERE / "agent.yaml").read_text(), "agent.yaml")
NATS_SERVER = Path(sys.executable).with_name("nats-server")
REAL_LOG = HERE.parents[2] / "shared" / "data" / "OpenSSH_2k.log"

FAILED = "Dec 10 06:55:48 gate sshd[24200]: Failed password for invalid user {user} from {address} port 38926 ssh2"


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the package first on the path, as its instances have it, and take its modules out again."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in ("finding", "ledger", "record"):
        sys.modules.pop(name, None)


def agent_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("log_sentinel_under_test", HERE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def harness(**config: Any) -> AgentHarness:
    return AgentHarness(agent_module().Sentinel, config=validate_config(MANIFEST, config), agent_id="log-sentinel")


def lines_of(*counts: int) -> list[str]:
    """Return lines of 10.0.0.1, 10.0.0.2, … with as many failed passwords each, mixed, and other lines between."""
    ordered = [
        FAILED.format(user=f"user{number}", address=f"10.0.0.{source}")
        for number in range(max(counts))
        for source, count in enumerate(counts, 1)
        if number < count
    ]
    return [
        line for failed in ordered for line in (failed, "Dec 10 06:55:46 gate sshd[1]: Connection closed by 1.2.3.4")
    ]


def guessers(lines: list[str], threshold: int = 5) -> set[str]:
    """Count as a reader of the log would."""
    found = Counter(re.findall(r"Failed password for .* from (\S+) port", "\n".join(lines)))
    return {address for address, count in found.items() if count >= threshold}


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_a_line_outside_the_window_no_longer_counts() -> None:
    ledger = importlib.import_module("ledger").Ledger(threshold=2, window_s=60)
    line = FAILED.format(user="root", address="10.0.0.1")

    ledger.saw(line, 0.0, "logs.sshd")
    ledger.saw(line, 61.0, "logs.sshd")
    assert not ledger.due(61.0)

    ledger.saw(line, 62.0, "logs.sshd")
    assert [suspect.address for suspect in ledger.due(62.0)] == ["10.0.0.1"]


def test_a_user_name_that_looks_like_an_address_blames_nobody_else() -> None:
    ledger = importlib.import_module("ledger").Ledger(threshold=1, window_s=60)

    ledger.saw(FAILED.format(user="x from 192.0.2.1 port 22 ssh2", address="10.0.0.1"), 0.0, "logs.sshd")

    assert [suspect.address for suspect in ledger.due(0.0)] == ["10.0.0.1"]


def test_a_flood_of_addresses_is_forgotten_oldest_first() -> None:
    ledger = importlib.import_module("ledger").Ledger(threshold=1, window_s=60, addresses=3)

    for number in range(5):
        ledger.saw(FAILED.format(user="root", address=f"10.0.0.{number}"), 0.0, "logs.sshd")

    assert [suspect.address for suspect in ledger.due(0.0)] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


# --- in the harness --------------------------------------------------------------------------------------------------


async def test_each_address_at_the_threshold_is_reported_once() -> None:
    async with harness() as sentinel:
        for line in lines_of(4, 5, 30):
            await sentinel.send("logs.sshd", line)
        findings: list[Any] = [message.json() for message in sentinel.published("findings.security")]
        suspects: Any = await sentinel.query("suspects", {"count": 1})

    assert sorted(finding["source"] for finding in findings) == ["10.0.0.2", "10.0.0.3"]
    assert {finding["severity"] for finding in findings} == {"medium"}
    assert findings[0]["details"]["failed_passwords"] == 5
    assert len({finding["finding_id"] for finding in findings}) == 2
    assert suspects == [{"address": "10.0.0.3", "failed_passwords": 30, "reported": True}]


async def test_a_lower_threshold_holds_from_the_next_line_on() -> None:
    async with harness() as sentinel:
        for line in lines_of(3):
            await sentinel.send("logs.sshd", line)
        await sentinel.reload(validate_config(MANIFEST, {"threshold": 4}))
        await sentinel.send("logs.sshd", FAILED.format(user="root", address="10.0.0.1"))

        assert len(sentinel.published("findings.security")) == 1


async def test_bytes_that_are_no_text_harm_nothing() -> None:
    async with harness() as sentinel:
        await sentinel.send("logs.sshd", b"\xff\xfe Failed password for \x00 from")

        assert not sentinel.published("findings.security")


@pytest.mark.skipif(not REAL_LOG.exists(), reason="the log is not beside this checkout")
async def test_the_ten_guessers_of_a_real_log_are_found() -> None:
    lines = await asyncio.to_thread(REAL_LOG.read_text)
    async with harness() as sentinel:
        for line in lines.splitlines():
            await sentinel.bus.publish("logs.sshd", line.encode())
        await sentinel.settle()
        findings: list[Any] = [message.json() for message in sentinel.published("findings.security")]

    assert len(findings) == 10
    assert {finding["source"] for finding in findings} == guessers(lines.splitlines())


# --- as a process ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def process(*argv: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(*argv, env=env, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@asynccontextmanager
async def jetstream_server(folder: Path) -> AsyncIterator[str]:
    argv = ("-a", "127.0.0.1", "-p", "-1", "-js", "-sd", folder / "js", "--ports_file_dir", folder)
    async with process(NATS_SERVER, *map(str, argv)) as server:
        yield await asyncio.to_thread(url_of, folder / f"nats-server_{server.pid}.ports")


def url_of(ports: Path) -> str:
    """Wait for the file in which nats-server writes the ports it took; the caller's deadline ends the server."""
    for _ in range(1000):
        if ports.exists() and ports.stat().st_size:
            return str(json.loads(ports.read_text())["nats"][0])
        time.sleep(0.01)
    raise TimeoutError(f"nats-server wrote no {ports}")


def sentinel_process(url: str, folder: Path) -> Any:
    config = folder / "config.json"
    config.write_text(json.dumps({"config": validate_config(MANIFEST, {"durable": True})}))
    environment = {
        "PATH": os.environ["PATH"],
        "AGENT_ID": "log-sentinel",
        "AGENT_TYPE": "security",
        "NATS_URL": url,
        "OPMAS_ENTRYPOINT": MANIFEST.entrypoint or "",
        "OPMAS_PACKAGE_DIR": str(HERE),
        "OPMAS_CONFIG": str(config),
        "OPMAS_HEARTBEAT_INTERVAL_S": "0.1",
    }
    return process(sys.executable, "-m", "opmas.agent", env=environment)


async def ready(client: Any) -> None:
    beats = await client.subscribe("agent.log-sentinel.status")
    await beats.next_msg(timeout=20)
    await beats.unsubscribe()


async def test_killed_twice_in_the_middle_the_durable_sentinel_reports_each_address_once(tmp_path: Path) -> None:
    if REAL_LOG.exists():
        lines = (await asyncio.to_thread(REAL_LOG.read_text)).splitlines()
    else:
        lines = lines_of(4, 5, 5, 7, 80, 286)
    expected = guessers(lines)
    async with asyncio.timeout(60), jetstream_server(tmp_path) as url, await nats.connect(url) as client:
        findings = await client.subscribe("findings.security")
        found: list[str] = []

        async def take(count: int) -> None:
            while len(set(found)) < count:
                found.append(json.loads((await findings.next_msg(timeout=20)).data)["source"])

        third = len(lines) // 3
        for round_, part in enumerate((lines[:third], lines[third : 2 * third], lines[2 * third :])):
            async with sentinel_process(url, tmp_path) as sentinel:
                await ready(client)
                for number, line in enumerate(part):
                    await client.publish("logs.sshd", line.encode())
                    if round_ < 2 and number == len(part) // 2:
                        await client.flush()
                        sentinel.kill()  # what follows is published while nobody is there
                await client.flush()
                if round_ == 2:
                    await take(len(expected))
                    for _ in range(5):  # a last address: all that was said before it has been said when it is reported
                        await client.publish("logs.sshd", FAILED.format(user="root", address="192.0.2.77").encode())
                    await take(len(expected) + 1)
                    sentinel.terminate()
                    assert await sentinel.wait() == 0

    assert Counter(found) == Counter(expected | {"192.0.2.77"})
