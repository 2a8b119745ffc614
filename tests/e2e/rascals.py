"""Agents that do what no agent should, and a caller at the port of runs who sends what no caller should."""

import http.client
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.node import PATIENCE_S, Document, Node, write_package

CODE = """
    import asyncio
    import os

    from opmas.agent import Agent, resume, run


    class Worker(Agent):
        @run
        async def answer(self, ctx):
            return await getattr(self, ctx.message, self.say)(ctx)

        @resume("decided")
        async def decided(self, ctx, state, decision):
            return f"{decision.confirmed} {decision.arguments}"

        async def say(self, ctx):
            await asyncio.sleep(ctx.params.get("seconds", 0))
            return ctx.message

        async def ask(self, ctx):
            return ctx.confirm("Really?", {"sum": 9}, resume="decided", expires_in=ctx.params.get("within"))

        async def keep_much(self, ctx):
            return ctx.confirm("Really?", {}, resume="decided", state="k" * 300_000)

        async def die(self, ctx):
            print("begun", ctx.run_id, ctx.attempt, flush=True)
            os._exit(3)

        async def loop(self, ctx):
            while True:
                await asyncio.sleep(0.02)

        async def count(self, ctx):
            for number in range(ctx.params["to"]):
                await ctx.send(f"{number} ")
                await asyncio.sleep(0.01)

        async def use_tokens(self, ctx):
            while True:
                ctx.usage(input_tokens=1)
                await asyncio.sleep(0)

        async def use_tools(self, ctx):
            while True:
                async with ctx.tool("hammer"):
                    await ctx.send(".")

        async def tell_all(self, ctx):
            return {"environment": dict(os.environ), "context": {name: repr(of) for name, of in vars(ctx).items()}}

        async def fail(self, ctx):
            raise ValueError("no \\ud800 way " + "y" * 5_000)

        async def bytes(self, ctx):
            return b"bytes"

        async def generator(self, ctx):
            return (number for number in range(3))

        async def no_json(self, ctx):
            return {"a": object()}

        async def circle(self, ctx):
            ctx.data["all"] = ctx.data

        async def deep(self, ctx):
            data = {}
            for _ in range(150):
                data = {"d": data}
            return data

        async def much_data(self, ctx):
            return {"a": "z" * 5_000_000}

        async def much_text(self, ctx):
            return "z" * 5_000_000

        async def nothing_sent(self, ctx):
            await ctx.send(None)

        async def no_number(self, ctx):
            ctx.progress(float("nan"))

        async def odd_text(self, ctx):
            print("\\x00\\x1b[31m" + "x" * 100_000, flush=True)
            return "a\\x00b\\ud800c"
"""
BLOCKING = """
    import time

    from opmas.agent import Agent, run


    class Worker(Agent):
        @run
        def answer(self, ctx):
            while not ctx.cancelled:
                time.sleep(0.02)
            ctx.send_from_thread("never said")
"""
# A second is the least that the wall time may be.
LIMITS = {"wall_time": 1, "tokens": 20, "tool_calls": 5}

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: http.client.HTTPMessage

    @property
    def reason(self) -> str | None:
        """Why a run ended otherwise than completed, in a word."""
        return (self.body.get("data") or {}).get("reason")


@dataclass(frozen=True)
class Caller:
    """Somebody at port 7777, who may send anything."""

    node: Node
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None, **more: str) -> Answer:
        """Send a request; `body` is JSON, or bytes as they are. Headers are named with underscores."""
        port = int(self.node.environment["OPMAS_API__AGENTOS_PORT"])
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"} | self.headers
        given |= {name.replace("_", "-"): value for name, value in more.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        document = text.startswith(b"{")
        return Answer(answer.status, json.loads(text) if document else text, answer.headers)

    def run(self, agent_id: str, message: str, *, wait: int = 30, key: str = "", **body: Any) -> Answer:
        """Ask an agent, and wait for the end."""
        more = {"Idempotency_Key": key} if key else {}
        return self.call("POST", f"/agents/{agent_id}/runs?wait={wait}", {"message": message, **body}, **more)

    def begin(self, agent_id: str, message: str, **body: Any) -> str:
        """Ask an agent, and return the path of the run."""
        accepted = self.run(agent_id, message, wait=0, **body)
        assert accepted.status == 202, accepted.body
        return f"/agents/{agent_id}/runs/{accepted.body['runId']}"

    def get(self, path: str) -> Answer:
        """Read something."""
        return self.call("GET", path)

    def events(self, path: str) -> list[Document]:
        """Return all events of a run that ends."""
        text: bytes = self.get(f"{path}/stream").body
        return [json.loads(line[len("data: ") :]) for line in text.decode().splitlines() if line.startswith("data: ")]

    def store(self, name: str, content: bytes, type_: str = "text/plain") -> Answer:
        """Send a file in a form."""
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {type_}\r\n\r\n'
        form = head.encode() + content + b"\r\n--x--\r\n"
        return self.call("POST", "/api/v1/files", form, Content_Type="multipart/form-data; boundary=x")

    def of_workspace(self, workspace: str) -> "Caller":
        """Somebody of another workspace, with a key of their own."""
        made = self.node.api("POST", "/api/v1/tokens", {"name": workspace, "role": "operator", "workspace": workspace})
        return Caller(self.node, made[1]["token"])


def at_once(function: Callable[[A], T], items: Iterable[A]) -> list[T]:
    """Call a function for all items, fifty at a time."""
    with ThreadPoolExecutor(50) as pool:
        return list(pool.map(function, items))


def write_rascals(node: Node) -> None:
    """Let the agents in."""
    write_package(node.packages, "rascal", CODE)
    write_package(node.packages, "deadly", CODE, on_lost="retry")
    write_package(node.packages, "rejecting", CODE, session_runs="reject")
    write_package(node.packages, "interrupting", CODE, session_runs="interrupt")
    write_package(node.packages, "limited", CODE, run_limits=LIMITS)
    write_package(node.packages, "blocking", BLOCKING, run_limits=LIMITS)
    node.running("rascal", "deadly", "rejecting", "interrupting", "limited", "blocking")
