"""A manager's process on a nats-server of its own, and an operator who speaks to it over NATS as anybody would."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from agent_manager.nats import EmbeddedServer, EmbeddedSource, Grant, Login, Role
from opmas.bus import Bus
from opmas.wire import subjects
from opmas.wire.errors import ManagerUnavailable, error_of
from opmas.wire.messages import Response
from tests.node import PATIENCE_S, ManagerProcess, write_package

Document = dict[str, Any]

# The least an agent can be, and one that never says it is ready.
WORKER = """
    from opmas.agent import Agent


    class Worker(Agent):
        pass
"""
SLEEPER: Document = {"command": ["sleep", "1000"], "heartbeat": "process", "autostart": False}


async def until(condition: Callable[[], Awaitable[Any]], what: str = "") -> Any:
    """Ask again and again until the answer is true, and return it."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await condition()):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:g} s: {what or condition}, but {found!r}") from None
    return found


class Operator:
    """Sends commands and asks questions."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def say(self, subject: str, document: Document, headers: dict[str, str] | None = None) -> Response:
        """Send one message and return the whole response."""
        answer = await self.bus.request(subject, json.dumps(document).encode(), PATIENCE_S, headers)
        return Response.model_validate_json(answer.data)

    async def command(self, name: str, agent_id: str, /, **params: Any) -> Document:
        """Send a command; returns its result or raises its error."""
        return _result(await self.say(subjects.COMMAND, {"command": name, "agent_id": agent_id, "params": params}))

    async def query(self, name: str, agent_id: str | None = None, /, **params: Any) -> Document:
        """Ask; returns the result or raises the error."""
        return _result(await self.say(subjects.QUERY, {"query": name, "agent_id": agent_id, "params": params}))

    async def get(self, agent_id: str) -> Document:
        """Return an agent's view."""
        return await self.query("get", agent_id)

    async def until(self, agent_id: str, condition: Callable[[Document], Any]) -> Document:
        """Wait until an agent's view satisfies a condition, and return the view."""
        seen: Document = {}

        async def satisfied() -> bool:
            nonlocal seen
            try:
                listed = await self.query("list")
            except ManagerUnavailable:  # it is just starting
                return False
            seen = next((view for view in listed["agents"] if view["id"] == agent_id), {})
            return bool(seen and condition(seen))

        try:
            await until(satisfied, agent_id)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None
        return seen

    async def running(self, agent_id: str) -> Document:
        """Wait until an agent runs, whole."""
        return await self.until(agent_id, lambda view: view["status"] == "running" and pids(view))

    async def start(self, agent_id: str) -> Document:
        """Start an agent and return its view once it runs."""
        await self.command("start", agent_id, wait=PATIENCE_S)
        return await self.get(agent_id)

    async def stop(self, agent_id: str) -> Document:
        """Stop an agent and return its view once it has stopped."""
        await self.command("stop", agent_id, wait=PATIENCE_S)
        return await self.get(agent_id)

    async def events(self, agent_id: str) -> list[Document]:
        """Return what happened to an agent, oldest first."""
        found: list[Document] = (await self.query("events", agent_id, limit=1000))["events"]
        return found


def _result(response: Response) -> Document:
    if response.error is not None:
        raise error_of(response.error)
    assert isinstance(response.result, dict)
    return response.result


def pids(view: Document) -> list[int]:
    """Return the pids of an agent's instances that have one."""
    return [instance["pid"] for instance in view["instances"] if instance["pid"]]


class Fleet:
    """One home with a nats-server, packages and, at a time, one manager."""

    def __init__(self, root: Path, **settings: str) -> None:
        self.server = EmbeddedServer(root / "home", port=0)
        asyncio.run(self.server.start())
        self.manager = ManagerProcess(root, "", **settings)
        self.home, self.packages = self.manager.home, self.manager.packages

    def package(self, name: str, code: str = "", **fields: Any) -> Path:
        """Write a package."""
        return write_package(self.packages, name, code, **fields)

    async def login(self, role: Role = Role.OPERATOR, name: str = "cli", **more: Any) -> Login:
        """Make a NATS user."""
        async with EmbeddedSource(self.home, self.server.url) as source:
            return await source.issue(Grant(role, name, **more), self.home / "nats" / f"test-{role}-{name}.creds")

    @asynccontextmanager
    async def bus(self, login: Login | None = None) -> AsyncIterator[Bus]:
        """Connect, as an operator unless `login` says otherwise."""
        login = login or await self.login()
        bus = await Bus.connect(login.url, name="test", creds=login.creds, inbox_prefix=login.inbox_prefix)
        async with bus:
            yield bus

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Operator]:
        """Connect as `opmas` does."""
        async with self.bus() as bus:
            yield Operator(bus)

    def close(self) -> None:
        """End the manager with all its agents, then the server."""
        try:
            if self.manager.process is not None and self.manager.process.poll() is None:
                self.manager.signal(signal.SIGTERM)
                self.manager.signal(signal.SIGTERM)
                self.manager.wait()
        finally:
            asyncio.run(self.server.stop())
            self.manager.close()


@contextmanager
def fleet(root: Path, **settings: str) -> Iterator[Fleet]:
    """Provide a fleet without a manager yet, and leave nothing of it."""
    one = Fleet(root, **settings)
    try:
        yield one
    finally:
        one.close()
