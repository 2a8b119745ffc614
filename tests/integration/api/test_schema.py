"""Whatever the OpenAPI document allows, and what it does not, is answered as the document says; nothing fails."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.peer import serving
from tests.integration.api.server import Server, running

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# A stream does not end: streams have tests of their own.
CONFIG = '[parameters]\n"query.follow" = false\n'
# What no document can say (an id that must equal the path's, a date in the future) is refused all the same.
UNCHECKED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def server(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an API, and a peer in the manager's place on a loop of its own: the test blocks."""
    ready, done = threading.Event(), threading.Event()

    async def answer() -> None:
        async with serving(nats_url):
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(answer(),))
    thread.start()
    try:
        assert ready.wait(30)
        with running(Path(tmp_path_factory.mktemp("schema")), nats_url) as server:
            yield server
    finally:
        done.set()
        thread.join()


def test_no_request_however_generated_fails_or_breaks_the_document(server: Server, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        *(SCHEMATHESIS, "--config-file", tmp_path / "schemathesis.toml", "run", f"{server.url}/openapi.json"),
        *("-H", f"Authorization: Bearer {server.token}", "--phases", "examples,coverage,fuzzing", "-n", "5"),
        *("--checks", "all", "--exclude-checks", UNCHECKED, "--seed", "1", "--no-shrink", "--continue-on-failure"),
        *("--no-color", "--generation-database", "none", "--request-timeout", "30"),
    ]

    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONWARNINGS": "ignore"}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " 0 passed" not in ended.stdout
