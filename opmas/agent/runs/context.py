"""`RunContext`: what a run's handler is given, and how it tells of its work.

It says things; when they travel, and what becomes of the run, is for the outbox and the run.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import JsonValue
from pydantic_core import from_json

from opmas.agent.message import as_json, clean
from opmas.agent.runs.files import Files, RunFile
from opmas.agent.runs.kept import kept_for
from opmas.agent.runs.outbox import Outbox, encoded
from opmas.agent.runs.tool import ToolUse
from opmas.agent.runs.verdict import Verdict, over_tokens, over_tool_calls
from opmas.wire.documents import require_readable
from opmas.wire.errors import Conflict, InvalidRequest
from opmas.wire.messages import Progress
from opmas.wire.runs import Assignment, ConfirmationRequest, EventKind, RunEvent, Turn, Usage

# A chunk of text is at most 128 KB of UTF-8 then, so that any frame has room for several.
_CHUNK_CHARS = 32_768
_FROM_THREAD_S = 60.0
_OURS = (EventKind.STARTED, EventKind.CONFIRMATION, EventKind.END)

_current: ContextVar[str | None] = ContextVar("opmas.agent.runs", default=None)


def run_id() -> str | None:
    """Tell the id of the run that this code works for, if there is one."""
    return _current.get()


@contextmanager
def entered(run: str) -> Iterator[None]:
    """Work for `run`, as log lines tell."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


@dataclass(frozen=True, slots=True)
class Session:
    """The conversation a run belongs to; `history` is what was said before, oldest first."""

    id: str
    history: tuple[Turn, ...] = ()


class RunContext:
    """One run, to its handler.

    `data` is the structured part of the answer, beside the text; `state` is what was kept for `@resume`. From a handler
    that is no coroutine and so runs in a thread, `send_from_thread` takes the place of `send`; all that is not awaited
    works from there as well.
    """

    def __init__(
        self,
        assignment: Assignment,
        outbox: Outbox,
        files: Files,
        resumes: frozenset[str],
        stop: Callable[[Verdict], None],
    ) -> None:
        given = assignment.input
        self.run_id, self.attempt, self.limits = assignment.run_id, assignment.attempt, assignment.limits
        self.message, self.params, self.metadata = given.message, given.params, given.metadata
        self.workspace_id, self.user_id = given.workspace_id, given.user_id
        self.correlation_id = given.correlation_id
        self.session = Session(given.session_id, assignment.history)
        self.files = tuple(RunFile(ref, files.fetch) for ref in given.files)
        self.data: dict[str, Any] = {}
        kept = kept_for(assignment)
        self.state, self.used = kept.state, kept.used
        self.cancelled = False
        self._outbox = outbox
        self._resumes = resumes
        self._stop = stop
        self._said = [kept.said]
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def content(self) -> str:
        """All text that was sent so far."""
        if len(self._said) > 1:
            self._said = ["".join(self._said)]
        return self._said[0]

    # --- what a handler says -----------------------------------------------------------------------------------------

    async def send(self, text: str, data: dict[str, Any] | None = None) -> None:
        """Send the next piece of the answer; waits while too much is on its way. Raises `Conflict` after the end."""
        for event in chunks_of(text, data):
            await self.emit(event)

    def send_from_thread(self, text: str, data: dict[str, Any] | None = None) -> None:
        """Do what `send` does, from a thread. Raises `Conflict` when the run was cancelled or has ended."""
        if self.cancelled:
            raise Conflict("cannot send: the run is being stopped", "Return from the handler.")
        asyncio.run_coroutine_threadsafe(self.send(text, data), self._loop).result(_FROM_THREAD_S)

    def tool(self, name: str, arguments: dict[str, Any] | None = None) -> ToolUse:
        """Tell of the call of a tool: `async with ctx.tool("search", {"q": q}) as call: call.result = await …`."""
        given = plain(arguments or {})
        return ToolUse(name, given, begin=self._count_tool_call, put=self._post, room=self._outbox.room)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the work has come; left out when too much is on its way already."""
        if not self._outbox.is_full:
            progress = Progress(done=done, total=total, message=clean(message))
            if not all(math.isfinite(number) for number in (progress.done, progress.total or 0.0)):
                raise InvalidRequest(f"cannot tell progress: {done} of {total} is no measure", "Tell finite numbers.")
            self._post(RunEvent(kind=EventKind.PROGRESS, progress=progress))

    def usage(
        self,
        *,
        model: str = "",
        provider: str = "",
        input_tokens: int = 0,
        output_tokens: int = 0,
        total_tokens: int | None = None,
        cost: float | None = None,
    ) -> None:
        """Add to what the run has used; beyond its limit of tokens the run is stopped."""
        used, total = self.used, input_tokens + output_tokens if total_tokens is None else total_tokens
        self.used = Usage(
            model=model or used.model,
            provider=provider or used.provider,
            input_tokens=used.input_tokens + input_tokens,
            output_tokens=used.output_tokens + output_tokens,
            total_tokens=used.total_tokens + total,
            cost=used.cost if cost is None else (used.cost or 0.0) + cost,
            tool_calls=used.tool_calls,
        )
        limit = self.limits.tokens
        if limit is not None and self.used.total_tokens > limit:
            self._halt(over_tokens(self.used.total_tokens, limit))

    def confirm(
        self,
        message: str,
        arguments: dict[str, Any] | None = None,
        *,
        state: Any = None,
        resume: str,
        tool_name: str = "",
        expires_in: float | None = None,
    ) -> ConfirmationRequest:
        """Make what the handler returns when a human has to decide: `return ctx.confirm("Pay?", {...}, resume="pay")`.

        The decision calls the function marked `@resume(resume)` with `state`, in any instance. `expires_in` is in
        seconds. Raises `InvalidRequest` when there is no such function, or when `state` is not JSON.
        """
        if resume not in self._resumes:
            known = ", ".join(sorted(self._resumes)) or "none"
            raise InvalidRequest(
                f"cannot ask for a confirmation: no function is marked @resume({resume!r})", f"There is: {known}."
            )
        return ConfirmationRequest(
            id=uuid4().hex,
            message=message,
            tool_name=tool_name,
            arguments=plain(arguments or {}),
            state=plain(state),
            resume=resume,
            expires_in_s=expires_in,
        )

    async def emit(self, event: RunEvent) -> None:
        """Send an event as it is; `send`, `tool` and `progress` make the usual ones."""
        if event.kind in _OURS:
            raise InvalidRequest(f"cannot emit {event.kind.value!r}: it follows from what the handler returns")
        await self._outbox.room()
        if event.tool is not None and not event.tool.done:
            self._count_tool_call()
        self._post(event)
        if event.kind is EventKind.CHUNK:
            self._said.append(event.content)

    # --- how it is done ----------------------------------------------------------------------------------------------

    def _post(self, event: RunEvent) -> None:
        data = encoded(event)
        if threading.get_ident() == self._thread:
            self._outbox.post(data)
        else:
            self._loop.call_soon_threadsafe(self._outbox.post, data)

    def _count_tool_call(self) -> None:
        limit = self.limits.tool_calls
        if limit is not None and self.used.tool_calls >= limit:
            verdict = over_tool_calls(limit)
            self._halt(verdict)
            raise Conflict(f"cannot call another tool: {verdict.error}")
        self.used = self.used.model_copy(update={"tool_calls": self.used.tool_calls + 1})

    def _halt(self, verdict: Verdict) -> None:
        if threading.get_ident() == self._thread:
            self._stop(verdict)
        else:
            self._loop.call_soon_threadsafe(self._stop, verdict)


def chunks_of(text: str, data: dict[str, Any] | None = None) -> list[RunEvent]:
    """Make the events of a piece of the answer: several when it is long, none when it is empty."""
    if not isinstance(text, str):
        raise InvalidRequest(f"cannot send what is of type {type(text).__name__}", "Send text; `data` takes the rest.")
    whole = clean(text)
    parts = [whole[start : start + _CHUNK_CHARS] for start in range(0, len(whole), _CHUNK_CHARS)]
    if data is None:
        return [RunEvent(kind=EventKind.CHUNK, content=part) for part in parts]
    first = RunEvent(kind=EventKind.CHUNK, content=parts[0] if parts else "", data=plain(data))
    return [first, *(RunEvent(kind=EventKind.CHUNK, content=part) for part in parts[1:])]


def plain(value: Any) -> Any:
    """Return `value` as plain JSON: models, tuples and dates are turned into it. Raises `InvalidRequest`."""
    try:
        result: JsonValue = from_json(as_json(value))
        require_readable(result)
    except ValueError as error:  # nested deeper than a parser goes
        raise InvalidRequest(f"{type(value).__name__} cannot be told: {error}") from error
    return result
