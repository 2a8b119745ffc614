"""The servers whose runs are measured: AgentOS and an OPMAS node with the same agent, each with and without a store."""

import dataclasses
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

from benchmarks import figures
from benchmarks.sides import agentos, opened
from benchmarks.sides.opmas import Opmas

_MESSAGE = "what is the weather like on the moon today"
_MANIFEST = """name: {id}
runtime: agno
entrypoint: agent.py:agent
autostart: false
replicas: {replicas}
max_runs: {max_runs}
agno_store: {store}
"""
_HEAD = "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {type}\r\nContent-Length: {size}\r\n{more}\r\n{body}"


@dataclasses.dataclass(frozen=True)
class Target:
    """A server with one way of running the agent: where it listens, which processes it uses, what to say to it."""

    name: str
    store: str
    port: int
    pids: Mapping[str, Sequence[int]]
    token: str = ""
    agent_id: str = "bench"

    def request(self, streamed: bool) -> str:
        """Return the HTTP request that invokes the agent."""
        path = f"/agents/{self.agent_id}/runs"
        if not self.token:
            body = urlencode({"message": _MESSAGE, "stream": str(streamed).lower()})
            return _HEAD.format(path=path, type="application/x-www-form-urlencoded", size=len(body), more="", body=body)
        body = json.dumps({"message": _MESSAGE})
        how = "Accept: text/event-stream\r\n" if streamed else "Prefer: wait=60\r\n"
        more = f"Authorization: Bearer {self.token}\r\n{how}"
        return _HEAD.format(path=path, type="application/json", size=len(body), more=more, body=body)

    def answer(self, streamed: bool) -> tuple[str, str]:
        """Return a word of the answer's first piece and one of its end."""
        if not streamed:
            done = '"status":"completed"' if self.token else '"status":"COMPLETED"'
            return done, done
        return ('"type":"chunk"', '"type":"end"') if self.token else ("event: RunContent", "event: RunCompleted")


@asynccontextmanager
async def serving(replicas: Sequence[int]) -> AsyncIterator[list[Target]]:
    """Run all servers at once, OPMAS's agents with each number of replicas; those not called do nothing but beat."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-agentos-")))
        targets = []
        for store in ("none", "sqlite"):
            port, pid = await stack.enter_async_context(agentos.serving(folder / store, stores=store != "none"))
            targets.append(Target("AgentOS", store, port, {"server": [pid]}))
        node = await stack.enter_async_context(_node(replicas))
        token = (node.home / "admin.token").read_text().strip()
        port = int(node.env["OPMAS_API__AGENTOS_PORT"])
        for agent_id in node.ids:
            store, count = agent_id.split("-")
            name = f"OPMAS, {count} replica{'' if count == '1' else 's'}"
            pids = {"API": [node.pids["api"]], "NATS": [node.pids["nats-server"]], "agent": _instances(node, agent_id)}
            targets.append(Target(name, store, port, pids, token, agent_id))
        yield targets


@asynccontextmanager
async def _node(replicas: Sequence[int]) -> AsyncIterator[Opmas]:
    """Run a node with an agent for each store and number of replicas, which take 64 runs at a time in all."""

    def manifest(id: str) -> str:  # noqa: A002 - the name of the field
        store, count = id.split("-")
        return _MANIFEST.format(id=id, store=store, replicas=count, max_runs=64 // int(count))

    side = SimpleNamespace(name="runs", open=partial(Opmas.open, manifest=manifest))
    ids = [f"{store}-{count}" for store in ("none", "sqlite") for count in replicas]
    async with opened(side, ids) as node:
        await node.start()
        yield node


def _instances(node: Opmas, agent_id: str) -> list[int]:
    """Find the agent's processes by their titles."""
    return [pid for pid in node.agent_processes() if figures.command_of(pid).startswith(f"opmas: {agent_id}-")]
