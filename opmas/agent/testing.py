"""Drive an agent in a test, without a manager and without a NATS server: the same dispatch, on a bus in memory.

What a handler raises is raised where the message was sent, so that a test fails for the right reason.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from opmas.agent.author import Agent
from opmas.agent.config import ConfigSource
from opmas.agent.desk import Desk, RunResult
from opmas.agent.environment import Environment
from opmas.agent.handlers import call
from opmas.agent.instance import Health, Instance
from opmas.agent.message import Data, Message, encode
from opmas.bus import MemoryBus
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded, InvalidRequest, TakesNoRuns, error_of
from opmas.wire.messages import Command, Query, Response
from opmas.wire.runs import Decision, RunLimits, Turn


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
        self._desk = Desk(agent_id, self.bus)
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._instance = Instance(self.agent, self._environment, self._source)
        self._instance.on_error = self._errors.append
        await self._tasks.__aenter__()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._desk.open(self._tasks)
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

    # --- runs --------------------------------------------------------------------------------------------------------

    async def run(self, message: str, **given: Any) -> RunResult:
        """Ask the agent; return when it has answered, or waits for a human. Takes what `begin` does."""
        return await self.settled(await self.begin(message, **given))

    async def begin(
        self,
        message: str,
        *,
        session: Sequence[Turn] = (),
        files: dict[str, bytes] | None = None,
        limits: RunLimits | None = None,
        **given: Any,
    ) -> str:
        """Ask the agent and return the id of the run at once.

        `session` is what was said before, `files` are contents by name; `given` are other fields of `RunInput`:
        `params={...}`, `user_id="ann"`, `metadata={...}`.
        """
        if not self._instance.runs.takes_runs:
            raise TakesNoRuns("the agent has no function marked @run")
        return await self._desk.accept(message, history=tuple(session), files=files, limits=limits, **given)

    async def settled(self, run_id: str) -> RunResult:
        """Wait until a run has ended, or waits for a human."""
        return await self._in_time(self._desk.settled(run_id), f"the run {run_id} has not ended")

    async def reported(self, run_id: str, events: int) -> RunResult:
        """Wait until so many events of a run were reported, `started` being the first."""
        return await self._in_time(self._desk.reported(run_id, events), f"the run {run_id} has not come so far")

    async def resume(
        self, result: RunResult, *, confirmed: bool, arguments: dict[str, Any] | None = None, note: str = ""
    ) -> RunResult:
        """Decide the confirmation that a run waits for; return what becomes of the run then."""
        asked = result.confirmation
        if asked is None:
            raise InvalidRequest(f"cannot decide: the run is {result.status.value} and waits for nobody")
        decision = Decision(
            confirmation_id=asked.id,
            confirmed=confirmed,
            note=note,
            arguments=asked.arguments if arguments is None else arguments,
        )
        await self._desk.decide(result.run_id, decision)
        return await self.settled(result.run_id)

    async def cancel(self, run_id: str) -> RunResult:
        """Cancel a run under way; return how it ended."""
        await self.command("cancel", {"run_id": run_id})
        return await self.settled(run_id)

    async def _in_time(self, waiting: Coroutine[Any, Any, RunResult], what: str) -> RunResult:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiting
        except TimeoutError:
            raise DeadlineExceeded(f"{what} after {self._timeout_s:g} s") from None

    async def reload(self, config: dict[str, JsonValue]) -> None:
        """Change the config as an operator would. Raises `InvalidRequest` when the schema refuses it."""
        await self._instance.reload(config)

    async def health(self) -> Health:
        """Ask the agent's health check."""
        return await self._instance.check_health()

    async def metrics(self) -> dict[str, float]:
        """Return the figures it would report."""
        return await self._instance.collect_metrics()
