"""An agent at work in this process: attached to a bus, handed its messages, drained at the end.

Knows nothing of processes, signals or heartbeats: the runtime adds those, and the test harness does without.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import JsonValue

from opmas.agent.answers import Answers, told
from opmas.agent.author import Agent
from opmas.agent.config import Config, ConfigSource
from opmas.agent.environment import Environment
from opmas.agent.handlers import Handler, Kind, call, handlers_of
from opmas.agent.message import Message
from opmas.agent.runs.worker import Worker
from opmas.bus import AnyBus, AnySubscription, Msg
from opmas.wire import subjects
from opmas.wire.messages import Progress, failure

logger = logging.getLogger(__name__)

# Answers are given side by side, so that a slow command does not keep a health query waiting.
_ANSWERS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Health:
    """What the author's health check said."""

    healthy: bool = True
    message: str = ""
    details: dict[str, JsonValue] = field(default_factory=dict)


class Instance:
    """One running `agent`. Making it raises `InvalidRequest` for a config or a handler that cannot be used."""

    def __init__(self, agent: Agent, environment: Environment, source: ConfigSource) -> None:
        self.agent = agent
        self.environment = environment
        self.config = source.first()
        self.loop = asyncio.get_running_loop()
        self.ending = asyncio.Event()
        self.failure: BaseException | None = None
        self.progress: Progress | None = None
        self.since = time.monotonic()
        self.pid = os.getpid()
        self.handled = 0
        self.errors = 0
        self.on_error: Callable[[Exception], None] | None = None
        self._source = source
        self._bus: AnyBus | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._subscriptions: list[AnySubscription] = []
        self._handlers = handlers_of(agent)
        self.runs = Worker(environment, self._handlers)
        agent.attach(self)

    @property
    def listens_to(self) -> list[str]:
        """The subjects of its message handlers."""
        return [each.mark.name for each in self._handlers if each.mark.kind is Kind.MESSAGE]

    @property
    def in_flight(self) -> int:
        """How many runs, messages, commands and queries are being handled now."""
        return self.runs.in_flight + sum(subscription.in_flight for subscription in self._subscriptions)

    @property
    def bus(self) -> AnyBus:
        """Where it sends and listens."""
        if self._bus is None:
            raise RuntimeError("not connected yet: this works from start() on")
        return self._bus

    async def start(self, bus: AnyBus, tasks: asyncio.TaskGroup) -> None:
        """Call the start hook, then listen; on return the server knows all subscriptions.

        Handlers and background work run in `tasks`.
        """
        self._bus, self._tasks = bus, tasks
        await call(self.agent.start)
        answers = Answers(self, self._handlers)
        agent_id = self.environment.agent_id
        for handler in self._handlers:
            if handler.mark.kind is Kind.MESSAGE:
                queue = "" if handler.mark.every_replica else agent_id
                await self._listen(
                    handler.mark.name, partial(self._take, handler), queue=queue, concurrency=handler.mark.concurrency
                )
        await self._listen(subjects.command(agent_id), answers.take_command)
        await self._listen(subjects.query(agent_id), answers.take_query, queue=agent_id)
        service = answers.service()
        for subject in service.subjects:
            await self._listen(subject, partial(service.answer, bus))
        if self.runs.takes_runs:
            await self.runs.listen(bus, tasks)
        await self.bus.flush()
        if self.runs.takes_runs:
            self.runs.start()

    async def _listen(
        self,
        subject: str,
        handler: Callable[[Msg], Coroutine[Any, Any, None]],
        queue: str = "",
        concurrency: int = _ANSWERS_AT_ONCE,
    ) -> None:
        assert self._tasks is not None  # noqa: S101 - set by start, the only caller
        self._subscriptions.append(
            await self.bus.subscribe(subject, handler, tasks=self._tasks, queue=queue, concurrency=concurrency)
        )

    async def _take(self, handler: Handler, msg: Msg) -> None:
        self.handled += 1
        try:
            await call(handler.function, Message(msg, self.bus))
        except Exception as error:  # the edge of a NATS message: logged, counted, and the asker is told
            self.failed(error)
            logger.exception("%s failed on a message on %s", handler.function.__qualname__, msg.subject)
            await self.bus.respond(msg, failure(msg.subject, self.environment.agent_id, told(error).body()))

    def failed(self, error: Exception) -> None:
        """Count an error of a handler."""
        self.errors += 1
        if self.on_error is not None:
            self.on_error(error)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run the author's background work; its failure is the agent's."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("not connected yet: this works from start() on")
        task = self._tasks.create_task(self._watch(work, name), name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:  # the edge of the author's background work
            logger.exception("%s failed; the agent ends", name)
            self.failure = error
            self.ending.set()

    def ask_to_end(self) -> None:
        """Begin to drain."""
        self.ending.set()

    async def drain(self) -> None:
        """Take no more messages and runs, and return when those taken have ended; the caller sets the deadline."""
        await asyncio.gather(self.runs.drain(), *(subscription.drain() for subscription in self._subscriptions))

    async def abandon(self) -> None:
        """Give up what is still being handled, and the background work."""
        lost = self.runs.abandon()
        if lost:
            logger.warning("gave up %d runs that had not ended", lost)
        abandoned = sum(subscription.abandon() for subscription in self._subscriptions)
        if abandoned:
            logger.warning("gave up %d messages that were still being handled", abandoned)
        background = list(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)

    async def reload(self, config: Config | None = None) -> None:
        """Use `config`, or what the file says now; a refused one changes nothing. Raises `InvalidRequest`."""
        new = await asyncio.to_thread(self._source.read) if config is None else self._source.checked(config)
        old = self.config
        self.config = self.agent.config = new
        try:
            await call(self.agent.on_config_changed, old)
        except BaseException:
            self.config = self.agent.config = old
            raise

    async def check_health(self) -> Health:
        """Ask the author's health check; an exception in it is an answer too. The caller sets the deadline."""
        if self.runs.is_stuck:
            return Health(False, "takes no more runs: every place is held by a handler that did not end when cancelled")
        try:
            said = await call(self.agent.health_check)
        except Exception as error:  # the edge of the author's hook: failing to say "well" means unwell
            logger.exception("health_check failed")
            return Health(False, f"health_check failed: {type(error).__name__}: {error}")
        if isinstance(said, dict):
            healthy = bool(said.get("healthy", True))
            return Health(healthy, str(said.get("message", "" if healthy else "health_check says no")), said)
        return Health() if said else Health(False, "health_check says no")

    async def collect_metrics(self) -> dict[str, float]:
        """Return the figures of the agent: ours, the author's, and what `collect_metrics` adds; finite ones only."""
        figures: dict[str, Any] = {"messages_total": self.handled, "errors_total": self.errors}
        if self.runs.takes_runs:
            figures["runs_total"] = self.runs.handled
        figures.update(self.agent.metrics)
        figures.update(await call(self.agent.collect_metrics))
        return {str(name): float(value) for name, value in figures.items() if math.isfinite(value)}
