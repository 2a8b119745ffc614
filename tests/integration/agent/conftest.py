"""Instances as real processes: the runtime as the manager starts it, listened to on a real bus."""

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from opmas.bus import Bus, Msg
from opmas.wire import subjects
from opmas.wire.messages import Response, StatusReport

_ids = (f"agent-{number}" for number in itertools.count())


class Running:
    """One instance, and what it says."""

    def __init__(self, agent_id: str, bus: Bus, process: asyncio.subprocess.Process) -> None:
        self.id = agent_id
        self.bus = bus
        self.process = process
        self.said: list[Msg] = []
        self.news = asyncio.Condition()
        self.errors = b""

    async def hear(self, msg: Msg) -> None:
        async with self.news:
            self.said.append(msg)
            self.news.notify_all()

    async def wait(self, subject: str, matching: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return the first JSON message on `subject` that matches, past or to come."""

        def found() -> list[Any]:
            bodies = [json.loads(msg.data) for msg in self.said if msg.subject == subject]
            return [body for body in bodies if matching(body)]

        async with asyncio.timeout(15), self.news:
            await self.news.wait_for(found)
        return found()[0]

    async def beat(self, matching: Callable[[StatusReport], bool] = lambda _: True) -> StatusReport:
        """Return the first heartbeat that matches."""
        status = subjects.status(self.id)
        body = await self.wait(status, lambda body: matching(StatusReport.model_validate(body)))
        return StatusReport.model_validate(body)

    async def command(self, name: str, **params: Any) -> Response:
        """Give a command."""
        return await self.send(subjects.command(self.id), json.dumps({"command": name, "params": params}).encode())

    async def query(self, name: str, **params: Any) -> Response:
        """Ask a query."""
        return await self.send(subjects.query(self.id), json.dumps({"query": name, "params": params}).encode())

    async def send(self, subject: str, body: bytes) -> Response:
        """Ask with any body at all."""
        return Response.model_validate_json((await self.bus.request(subject, body, 10)).data)

    async def ended(self) -> int:
        """Wait for the end; return the exit code and keep what stood on stderr in `errors`."""
        async with asyncio.timeout(15):
            _, self.errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


Start = Callable[..., Any]


@pytest.fixture
async def start(nats_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Start `code` as an agent's `agent.py`; ended with SIGKILL after the test if it still runs."""
    started: list[Running] = []
    async with await Bus.connect(nats_url, name="test") as bus, asyncio.TaskGroup() as tasks:

        async def run(code: str, **variables: str) -> Running:
            agent_id = next(_ids)
            package = tmp_path / agent_id
            package.mkdir()
            (package / "agent.py").write_text(dedent(code))
            environment = {
                "PATH": os.environ["PATH"],
                "AGENT_ID": agent_id,
                "NATS_URL": nats_url,
                "OPMAS_ENTRYPOINT": "agent.py:Tested",
                "OPMAS_PACKAGE_DIR": str(package),
                "OPMAS_HEARTBEAT_INTERVAL_S": "0.1",
                **variables,
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", "-m", "opmas.agent",
                env=environment, cwd=package, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            running = Running(agent_id, bus, process)
            started.append(running)
            for subject in (f"agent.{agent_id}.status", f"agent.{agent_id}.metrics", f"findings.{agent_id}.>"):
                await bus.subscribe(subject, running.hear, tasks=tasks)
            await bus.subscribe(subjects.response(agent_id), running.hear, tasks=tasks)
            await bus.flush()
            return running

        yield run
        for running in started:
            if running.process.returncode is None:
                running.process.kill()
                await running.process.communicate()
