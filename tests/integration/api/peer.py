"""A peer on the wire in the manager's place: answers commands and queries with what a test tells it, and keeps them.

It shows the API what no real manager does on demand: every error, silence, and nonsense. What the two do together is
shown with the real manager in `tests/integration/cli` and `tests/e2e`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from opmas.bus import Bus, Msg
from opmas.wire import subjects
from opmas.wire.errors import AgentNotFound, Conflict, OpmasError
from opmas.wire.messages import failure, success
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import (
    AgentList,
    AgentView,
    AuditEntry,
    AuditView,
    Cause,
    ConfigView,
    ControlResult,
    EventsView,
    EventView,
    HealthView,
    InstanceView,
    LastExit,
    LogLine,
    LogsView,
    MetricsView,
    MetricValues,
    NodeList,
    NodeView,
    PackageList,
    PackageView,
    StatusDetails,
    StatusView,
    Step,
    WhyView,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

Answer = BaseModel | OpmasError | bytes | None
Answering = Callable[[str | None, dict[str, Any]], Answer]


@dataclass(frozen=True)
class Seen:
    """One message that arrived."""

    name: str
    agent_id: str | None
    params: dict[str, Any]
    headers: Mapping[str, str]


def agent(name: str = "echo", status: AgentStatus = AgentStatus.RUNNING, reason: str = "") -> AgentView:
    last = LastExit(exit_code=3, terminated_at=NOON, reason="crash")
    instance = InstanceView(id=f"{name}-0", pid=4711, node="n1", status=status, uptime_s=61, restarts=2, last_exit=last)
    return AgentView(
        id=name, name=name, type="example", version="1.0", description="repeats", package=name, status=status,
        desired=Desired.RUNNING, enabled=True, replicas=1, instances=(instance,), reason=reason, created_at=NOON,
        updated_at=NOON,
    )  # fmt: skip


def _lines(name: str) -> LogsView:
    lines = (LogLine(time=NOON, stream="stdout", instance=f"{name}-0", line="hello \x1b]0;title\x07 world"),)
    return LogsView(agent_id=name, lines=lines, next="c1")


@dataclass
class Peer:
    """What it answers, by the name of the command or query, or how it finds that out; None means silence."""

    known: dict[str, AgentView] = field(default_factory=lambda: {"echo": agent()})
    answers: dict[str, Answer | Answering] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, name: str, agent_id: str | None, params: dict[str, Any]) -> Answer:
        if name in self.answers:
            told = self.answers[name]
            return told(agent_id, params) if callable(told) else told
        if name == "register" and agent_id is not None:
            return self._register(agent_id)
        if agent_id is not None and agent_id not in self.known:
            return AgentNotFound(f"no agent '{agent_id}'", "see `opmas ls`")
        whole: dict[str, BaseModel] = {
            "list": AgentList(agents=tuple(self.known.values()), total=len(self.known)),
            "events": EventsView(
                events=(EventView(id=7, time=NOON, node="n1", agent_id="echo", kind="exit", cause=Cause(actor="cli")),),
                next=7,
            ),
            "packages": PackageList(
                packages=(PackageView(name="bad", folder="p/bad", registered=False, error="no"),), total=1
            ),
            "audit": AuditView(
                audit=(
                    AuditEntry(
                        id=3, time=NOON, node="n1", publisher="cli", command="stop", agent_id="echo", outcome="success"
                    ),
                ),
                next=3,
            ),
            "nodes": NodeList(
                nodes=(
                    NodeView(
                        id="n1",
                        version="0",
                        pid=1,
                        status="ready",
                        started_at=NOON,
                        agents=1,
                        instances=1,
                        database="ok",
                        isolation="landlock 4",
                    ),
                ),
                total=1,
            ),
            "health": HealthView(status="ok", node="n1", version="0", checks={"database": "ok"}, agents=1, uptime_s=1),
        }
        return whole[name] if name in whole else self._of_one(name, agent_id or "")

    def _register(self, agent_id: str) -> Answer:
        if agent_id in self.known:
            return Conflict(f"cannot register {agent_id!r}: it exists")
        self.known[agent_id] = agent(agent_id)
        return ControlResult(accepted=True, generation=0, status=AgentStatus.STARTING, changed=True)

    def _of_one(self, name: str, agent_id: str) -> BaseModel:
        view = self.known.pop(agent_id) if name == "delete" else self.known[agent_id]
        details = StatusDetails(reason=view.reason)
        one: dict[str, BaseModel] = {
            "get": view,
            "status": StatusView(
                agent_id=agent_id, status=view.status, timestamp=NOON, health="healthy", details=details
            ),
            "metrics": MetricsView(agent_id=agent_id, timestamp=NOON, metrics=MetricValues(cpu_percent=1.5)),
            "logs": _lines(agent_id),
            "config": ConfigView(agent_id=agent_id, config={}, given={}, defaults={}, json_schema={}),
            "why": WhyView(
                agent_id=agent_id, status=view.status, code="running", summary="it runs", steps=(Step(what="started"),)
            ),
        }
        return one.get(name, ControlResult(accepted=True, generation=2, status=view.status))


@asynccontextmanager
async def serving(nats_url: str) -> AsyncIterator[Peer]:
    """Answer on the manager's subjects until the block ends."""
    peer = Peer()
    async with await Bus.connect(nats_url, name="peer") as bus, asyncio.TaskGroup() as tasks:

        async def handle(msg: Msg) -> None:
            body = json.loads(msg.data)
            name, agent_id = body.get("command") or body["query"], body.get("agent_id")
            if subjects.CALLER_HEADER in msg.headers:  # not what the API asks of its own accord, whenever that is
                peer.seen.append(Seen(name, agent_id, body.get("params", {}), msg.headers))
            peer.arrived.set()
            answer = peer.answer(name, agent_id, body.get("params", {}))
            if isinstance(answer, bytes):
                await bus.respond(msg, answer)
            elif isinstance(answer, OpmasError):
                await bus.respond(msg, failure(name, agent_id, answer.body()))
            elif answer is not None:
                await bus.respond(msg, success(name, agent_id, answer))

        for subject in (subjects.COMMAND, subjects.QUERY):
            await bus.subscribe(subject, handle, tasks=tasks, queue=subjects.MANAGERS_QUEUE)
        await bus.flush()
        yield peer
