"""`Agent`, which an author subclasses or makes one of: hooks to fill in, and what the runtime offers in return.

The runtime attaches itself before `start` and does the rest: connecting, beating, answering, draining.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import JsonValue

from opmas.agent import handlers
from opmas.agent.handlers import F
from opmas.agent.message import Data, Message, encode
from opmas.bus import Bus
from opmas.wire.errors import DeadlineExceeded, InvalidRequest
from opmas.wire.messages import Progress

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from opmas.agent.instance import Instance

HOOKS = ("start", "stop", "health_check", "collect_metrics", "on_config_changed")


class Agent:
    """An agent. Hooks may be coroutines or plain functions; plain ones run in a thread.

    `config` is valid against the manifest's schema. `metrics` is reported by itself: `self.metrics["lines"] += 1`
    counts, `self.metrics["queue"] = 7` gauges.
    """

    id: str
    instance_id: str
    name: str
    type: str
    version: str
    data_dir: Path | None
    config: dict[str, JsonValue]
    metrics: defaultdict[str, float]
    log: logging.Logger
    registered: list[Callable[..., Any]]

    _instance: "Instance | None" = None

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        """Make the agent usable; here and not in `__init__`, which authors override without calling ours."""
        agent = super().__new__(cls)
        agent.config = {}
        agent.metrics = defaultdict(float)
        agent.log = logging.getLogger("agent")
        agent.registered = []
        return agent

    # --- hooks, for the author to fill in --------------------------------------------------------------------------

    async def start(self) -> None:
        """Prepare; an exception here ends the process. Messages come only afterwards."""

    async def stop(self) -> None:
        """Clean up; called when the last message has been handled."""

    async def health_check(self) -> bool | dict[str, JsonValue]:
        """Say whether all is well; it is not with False, or a dict with `healthy: false` and a `message` that says why.

        Then the agent shows as `error` until it is well again.
        """
        return True

    async def collect_metrics(self) -> Mapping[str, float]:
        """Return figures to be reported besides `metrics`; called once per heartbeat interval."""
        return {}

    async def on_config_changed(self, old: dict[str, JsonValue]) -> None:
        """Act on the new `config`; an exception here brings `old` back."""

    # --- for agents made of functions ------------------------------------------------------------------------------

    def on(self, subject: str, *, every_replica: bool = False, concurrency: int = 1) -> Callable[[F], F]:
        """Do what `opmas.agent.on` does, for a function."""
        return self._register(handlers.on(subject, every_replica=every_replica, concurrency=concurrency))

    def command(self, name: str) -> Callable[[F], F]:
        """Do what `opmas.agent.command` does, for a function."""
        return self._register(handlers.command(name))

    def query(self, name: str) -> Callable[[F], F]:
        """Do what `opmas.agent.query` does, for a function."""
        return self._register(handlers.query(name))

    def run(self, function: F) -> F:
        """Do what `opmas.agent.run` does, for a function."""
        return self._register(handlers.run)(function)

    def resume(self, name: str) -> Callable[[F], F]:
        """Do what `opmas.agent.resume` does, for a function."""
        return self._register(handlers.resume(name))

    def _register(self, marking: Callable[[F], F]) -> Callable[[F], F]:
        def registered(function: F) -> F:
            if function not in self.registered:
                self.registered.append(function)
            return marking(function)

        return registered

    def hook(self, function: F) -> F:
        """Use a function as the hook it is named after: `@agent.hook async def start(): ...`."""
        if function.__name__ not in HOOKS:
            raise InvalidRequest(f"there is no hook {function.__name__!r}", f"The hooks are {', '.join(HOOKS)}.")
        setattr(self, function.__name__, function)
        return function

    # --- what the runtime offers -----------------------------------------------------------------------------------

    def attach(self, instance: "Instance") -> None:
        """Belong to the running `instance`; the runtime calls this before `start`."""
        environment = instance.environment
        self._instance = instance
        self.id, self.instance_id, self.name = environment.agent_id, environment.instance_id, environment.name
        self.type, self.version, self.data_dir = environment.type, environment.version, environment.data_dir
        self.config = instance.config
        self.log = logging.getLogger(self.id)

    @property
    def _running(self) -> "Instance":
        if self._instance is None:
            raise RuntimeError(f"{type(self).__name__} is not running: this works from start() on, not in __init__")
        return self._instance

    async def publish(self, subject: str, data: Data, headers: Mapping[str, str] | None = None) -> None:
        """Send bytes, text, or anything else as JSON to `subject`. Raises `OpmasError` subclasses that say why not."""
        await self._running.bus.publish(subject, encode(data), headers)

    def publish_from_thread(self, subject: str, data: Data, timeout_s: float = 10.0) -> None:
        """Do what `publish` does, from a handler or hook that is a plain function and so runs in a thread."""
        sending = asyncio.run_coroutine_threadsafe(self.publish(subject, data), self._running.loop)
        try:
            sending.result(timeout_s)
        except FutureTimeout:
            sending.cancel()
            raise DeadlineExceeded(f"cannot publish on {subject} within {timeout_s:g} s: the loop is busy") from None

    async def request(self, subject: str, data: Data, timeout_s: float = 5.0) -> Message:
        """Ask on `subject` and return the first answer. Raises `NoResponders`, `DeadlineExceeded`, `BusUnavailable`."""
        bus = self._running.bus
        return Message(await bus.request(subject, encode(data), timeout_s), bus)

    def jetstream(self) -> "JetStreamContext":
        """JetStream, as far as the credentials of this agent allow; not in the test harness."""
        bus = self._running.bus
        if not isinstance(bus, Bus):
            raise TypeError("JetStream needs a NATS server: the bus in memory has none")
        return bus.jetstream()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far a long piece of work has come; shown with the next heartbeat."""
        self._running.progress = Progress(done=done, total=total, message=message)

    def spawn(self, work: Coroutine[Any, Any, None], name: str = "background") -> None:
        """Run `work` beside the handlers until the agent drains; an exception in it ends the agent with exit code 1."""
        self._running.spawn(work, name)

    def describe(self) -> dict[str, JsonValue]:
        """Return what the query `info` shows besides what the runtime knows."""
        return {}
