"""Drive an agent in a test, without a manager and without a NATS server: the same dispatch, on a bus in memory.

What a handler raises is raised where the message was sent, so that a test fails for the right reason.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from opmas.agent.author import Agent
from opmas.agent.config import ConfigSource
from opmas.agent.environment import Environment
from opmas.agent.handlers import call
from opmas.agent.instance import Health, Instance
from opmas.agent.message import Data, Message, encode
from opmas.bus import MemoryBus
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded, error_of
from opmas.wire.messages import Command, Query, Response


class _GivenConfig(ConfigSource):
    """A config from the test instead of a file."""

    def __init__(self, config: dict[str, JsonValue], schema: dict[str, JsonValue] | None) -> None:
        super().__init__(schema=schema)
        self._config = config

    def first(self) -> dict[str, JsonValue]:
        return self.checked(self._config)


class AgentHarness:
    """`async with AgentHarness(Sentinel, config={...}) as harness`: started inside, drained and stopped at the end.

    `agent` is the agent itself, to look at; every wait ends after `timeout_s`.
    """

    def __init__(
        self,
        agent: Agent | type[Agent],
        *,
        config: dict[str, JsonValue] | None = None,
        schema: dict[str, JsonValue] | None = None,
        agent_id: str = "agent",
        timeout_s: float = 5.0,
    ) -> None:
        self.agent = agent() if isinstance(agent, type) else agent
        self.bus = MemoryBus()
        self._environment = Environment(agent_id, instance_id=f"{agent_id}-0", name=agent_id)
        self._source = _GivenConfig(config or {}, schema)
        self._timeout_s = timeout_s
        self._errors: list[Exception] = []
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._instance = Instance(self.agent, self._environment, self._source)
        self._instance.on_error = self._errors.append
        await self._tasks.__aenter__()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._instance.start(self.bus, self._tasks)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.settle()
                async with asyncio.timeout(self._timeout_s):
                    await self._instance.drain()
        finally:
            await self._leave()
            await call(self.agent.stop)

    async def _leave(self) -> None:
        await self._instance.abandon()
        # Not given the test's own exception, which it would wrap in a group.
        await self._tasks.__aexit__(None, None, None)

    async def send(self, subject: str, data: Data, headers: Mapping[str, str] | None = None) -> None:
        """Publish to the agent, and return when it and all that followed from it is handled."""
        await self.bus.publish(subject, encode(data), headers)
        await self.settle()

    async def ask(self, subject: str, data: Data) -> Message:
        """Publish to the agent and return what its handler replies."""
        return Message(await self.bus.request(subject, encode(data), self._timeout_s), self.bus)

    async def settle(self) -> None:
        """Wait until nothing is being handled. Raises what a handler or background work raised meanwhile."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self.bus.settle()
        except TimeoutError:
            raise DeadlineExceeded(f"still handling messages after {self._timeout_s:g} s") from None
        if isinstance(self._instance.failure, Exception):
            self._errors.append(self._instance.failure)
            self._instance.failure = None
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error

    def published(self, subject: str = ">") -> list[Message]:
        """Return what was published on `subject` so far (wildcards work), what the test itself sent included."""
        return [Message(msg, self.bus) for msg in self.bus.sent_on(subject)]

    async def wait_published(self, subject: str, count: int = 1) -> list[Message]:
        """Return what was published on `subject` as soon as it is at least `count` messages."""
        try:
            async with asyncio.timeout(self._timeout_s), self.bus.news:
                await self.bus.news.wait_for(lambda: len(self.bus.sent_on(subject)) >= count)
        except TimeoutError:
            found = len(self.bus.sent_on(subject))
            raise DeadlineExceeded(f"{found} of {count} messages on {subject} after {self._timeout_s:g} s") from None
        return self.published(subject)

    async def command(self, name: str, params: dict[str, JsonValue] | None = None) -> JsonValue:
        """Give a command and return its result. Raises the error it answers with."""
        agent_id = self._environment.agent_id
        message = Command(command=name, agent_id=agent_id, params=params or {})
        return await self._result(subjects.command(agent_id), message)

    async def query(self, name: str, params: dict[str, JsonValue] | None = None) -> JsonValue:
        """Ask a query and return its result. Raises the error it answers with."""
        return await self._result(subjects.query(self._environment.agent_id), Query(query=name, params=params or {}))

    async def _result(self, subject: str, message: Any) -> JsonValue:
        answer = await self.bus.request(subject, message, self._timeout_s)
        response = Response.model_validate_json(answer.data)
        if response.error is not None:
            # The original, with its traceback, when it was the author's code that failed.
            raise self._errors.pop() if self._errors else error_of(response.error)
        return response.result

    async def reload(self, config: dict[str, JsonValue]) -> None:
        """Change the config as an operator would. Raises `InvalidRequest` when the schema refuses it."""
        await self._instance.reload(config)

    async def health(self) -> Health:
        """Ask the agent's health check."""
        return await self._instance.check_health()

    async def metrics(self) -> dict[str, float]:
        """Return the figures it would report."""
        return await self._instance.collect_metrics()
