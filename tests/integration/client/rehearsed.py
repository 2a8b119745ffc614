"""An HTTP server that does what a test tells it, one act for each request: the far side on its bad days."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[asyncio.StreamWriter], Awaitable[None]]

RUN = {"runId": "r1", "agentId": "echo", "sessionId": "s1", "status": "completed", "content": "hi"}


@dataclass(frozen=True)
class Heard:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Rehearsed:
    """Answers requests with `acts` in turn, the last one again and again; `heard` are those that came."""

    acts: list[Act] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    under_way: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request of a connection, answer it and close."""
        self.under_way += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = head[0].split(" ")
            self.heard.append(Heard(method, path, headers, body))
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
            await act(writer)
            if act is silence:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left, as some tests want it to
        finally:
            writer.close()
            self.under_way -= 1


def answer(body: Any = RUN, status: int = 200, **headers: str) -> Act:
    """Answer with JSON."""

    async def act(writer: asyncio.StreamWriter) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{more}"
        writer.write(f"{head}connection: close\r\n\r\n".encode() + content)
        await writer.drain()

    return act


def refuse(status: int, code: str = "", **headers: str) -> Act:
    """Answer with an error of the API's shape."""
    body = {"statusCode": status, "message": f"cannot: {status}", "error": code, "correlationId": "c", "hint": "wait"}
    return answer(body if code else b"<html>", status, **headers)


def events(*numbers: int, last: str = "") -> Act:
    """Answer with a stream of chunks `numbers`, and `last` if the run ends; then cut the connection without a word."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in numbers:
            _event(writer, number, {"type": "chunk", "content": f"{number} "})
            await writer.drain()
        if last:
            _event(writer, (numbers or (0,))[-1] + 1, {"type": last, "data": RUN})
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    return act


def _event(writer: asyncio.StreamWriter, number: int, body: dict[str, Any]) -> None:
    told = {"runId": "r1", "timestamp": "2026-01-01T00:00:00Z"} | body
    text = f": ping\n\nid: {number}\ndata: {json.dumps(told)}\n\n".encode()
    writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""


async def silence(writer: asyncio.StreamWriter) -> None:
    """Say nothing, and leave the end to the client (see `serve`)."""
