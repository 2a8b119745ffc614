"""A model provider on the loopback interface: OpenAI's chat completions, each answer as the test has said before.

It speaks the wire only, so that Agno's own classes and OpenAI's own client are what is tested against it.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_REASONS = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Says:
    """Text; streamed word by word, with a pause before each; `cut` ends the connection after so many words."""

    text: str
    pause_s: float = 0.0
    cut: int | None = None


@dataclass(frozen=True)
class Calls:
    """Calls of tools: names with their arguments."""

    calls: tuple[tuple[str, dict[str, Any]], ...]

    @classmethod
    def one(cls, name: str, **arguments: Any) -> "Calls":
        return cls(((name, arguments),))


@dataclass(frozen=True)
class Refuses:
    """An error, which OpenAI's client may try again after a millisecond."""

    status: int
    message: str


Reply = Says | Calls | Refuses


@dataclass
class OpenAIServer:
    """Answers with `replies`, one after another, and keeps the bodies of what it was asked."""

    url: str = ""
    replies: deque[Reply] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """A client has closed the connection in the middle of an answer."""

    def will(self, *replies: Reply) -> None:
        self.replies.extend(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            body = json.loads(await reader.readexactly(length))
            self.asked.append(body)
            assert head.startswith("POST /v1/chat/completions ")
            await self._answer(writer, body, self.replies.popleft())
        except (ConnectionResetError, BrokenPipeError):
            self.gone.set()
        except (ConnectionAbortedError, asyncio.IncompleteReadError):
            pass  # cut by us, or never asked
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any], reply: Reply) -> None:
        if isinstance(reply, Refuses):
            error = {"error": {"message": reply.message, "type": "error", "code": None}}
            _head(writer, reply.status, "application/json", "Retry-After: 1\r\nRetry-After-Ms: 1\r\n")
            await _chunk(writer, json.dumps(error))
        elif body.get("stream"):
            _head(writer, 200, "text/event-stream")
            await self._stream(writer, reply, bool(body.get("stream_options", {}).get("include_usage")))
        else:
            _head(writer, 200, "application/json")
            message = {"role": "assistant", "content": reply.text} if isinstance(reply, Says) else _calling(reply)
            choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
            await _chunk(writer, json.dumps({**_ENVELOPE, "choices": [choice], "usage": _USAGE}))
        await _chunk(writer, "")

    async def _stream(self, writer: asyncio.StreamWriter, reply: Says | Calls, include_usage: bool) -> None:
        for number, delta in enumerate(_deltas(reply)):
            if isinstance(reply, Says):
                await asyncio.sleep(reply.pause_s)
                if number == reply.cut:
                    writer.transport.abort()
                    raise ConnectionAbortedError
            await _event(writer, [{"index": 0, "delta": delta, "finish_reason": None}])
        await _event(writer, [{"index": 0, "delta": {}, "finish_reason": _finish(reply)}])
        if include_usage:
            await _event(writer, [], usage=_USAGE)
        await _chunk(writer, "data: [DONE]\n\n")


_ENVELOPE = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "scripted"}
_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def _calling(reply: Calls) -> dict[str, Any]:
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(reply.calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _deltas(reply: Says | Calls) -> list[dict[str, Any]]:
    if isinstance(reply, Says):
        return [{"role": "assistant", "content": word} for word in reply.text.replace(" ", " \0").split("\0")]
    message = _calling(reply)
    return [{**message, "tool_calls": [{**call, "index": number}]} for number, call in enumerate(message["tool_calls"])]


def _finish(reply: Says | Calls) -> str:
    return "stop" if isinstance(reply, Says) else "tool_calls"


def _head(writer: asyncio.StreamWriter, status: int, kind: str, more: str = "") -> None:
    line = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"
    writer.write(f"{line}{more}Connection: close\r\n\r\n".encode())


async def _chunk(writer: asyncio.StreamWriter, text: str) -> None:
    """Chunked as real servers do it: so that the client can tell an answer that was cut from one that has ended."""
    data = text.encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


async def _event(writer: asyncio.StreamWriter, choices: list[dict[str, Any]], **more: Any) -> None:
    chunk = {**_ENVELOPE, "object": "chat.completion.chunk", "choices": choices, **more}
    await _chunk(writer, f"data: {json.dumps(chunk)}\n\n")


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    """Serve on a free port until the end."""
    scripted = OpenAIServer()
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        await scripted.serve(reader, writer)
        answering.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield scripted
    if answering:
        async with asyncio.timeout(10):
            await asyncio.wait(answering)
