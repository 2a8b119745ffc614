"""One run in this instance's hands: its start on record, its handler called or stopped, its end on record.

The handler has a task of its own, so that one which does not heed its cancellation cannot keep the end from being told.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from opmas.agent.handlers import Handler, Kind
from opmas.agent.message import clean
from opmas.agent.runs.context import RunContext, chunks_of, entered, plain
from opmas.agent.runs.files import Files
from opmas.agent.runs.kept import Kept
from opmas.agent.runs.outbox import EVENT_BYTES, Outbox, encoded
from opmas.agent.runs.verdict import CANCELLED, LOST, Verdict, over_time
from opmas.bus import AnyBus, correlated
from opmas.wire.errors import InvalidRequest, OpmasError
from opmas.wire.runs import Assignment, ConfirmationRequest, EventKind, FrameReply, RunEnd, RunEvent, RunStatus, Usage

logger = logging.getLogger(__name__)

# How long a handler may take to end after it was cancelled, before the end is told without it.
_PATIENCE_S = 5.0
_ERROR_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Functions:
    """The author's functions for runs."""

    run: Callable[..., Any] | None
    resumes: dict[str, Callable[..., Any]]

    @classmethod
    def of(cls, handlers: list[Handler]) -> "Functions":
        """Pick them from all handlers of an agent."""
        run = next((each.function for each in handlers if each.mark.kind is Kind.RUN), None)
        return cls(run, {each.mark.name: each.function for each in handlers if each.mark.kind is Kind.RESUME})

    def chosen(self, assignment: Assignment, context: RunContext) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Choose the function for `assignment`, and its arguments. Raises `InvalidRequest` when there is none."""
        again = assignment.resume
        function = self.run if again is None else self.resumes.get(again.name)
        if function is None:
            what = "@run" if again is None else f"@resume({again.name!r})"
            raise InvalidRequest(f"cannot handle the run: no function is marked {what}", "Was the package changed?")
        return function, (context,) if again is None else (context, context.state, again.decision)


@dataclass(frozen=True, slots=True)
class Site:
    """Where runs are held: one instance, as far as they need it."""

    agent_id: str
    instance_id: str
    bus: AnyBus
    tasks: asyncio.TaskGroup
    threads: ThreadPoolExecutor
    functions: Functions


class HeldRun:
    """One assigned run."""

    def __init__(self, assignment: Assignment, site: Site) -> None:
        self.run_id = assignment.run_id
        self._assignment = assignment
        self._site = site
        self._outbox = Outbox(site.bus, (site.agent_id, site.instance_id), assignment, site.tasks, self._heed)
        files = Files(site.bus, site.agent_id, site.instance_id, assignment.run_id)
        self._context = RunContext(assignment, self._outbox, files, frozenset(site.functions.resumes), self.stop)
        self._stopped: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._patience_s = _PATIENCE_S
        self._handler: asyncio.Task[None] | None = None
        self._in_thread = False
        self.is_stuck = False
        """Whether it has ended for all others, and its handler has not."""

    def stop(self, verdict: Verdict, patience_s: float | None = None) -> None:
        """End the run as `verdict` says, unless its handler has returned; the first verdict stands."""
        handler = self._handler
        if self._stopped.done() or (handler is not None and handler.done()):
            return
        self._patience_s = _PATIENCE_S if patience_s is None else patience_s
        self._stopped.set_result(verdict)
        self._context.cancelled = True
        if handler is not None and not self._in_thread:  # a thread cannot be cancelled, and must not look ended
            handler.cancel()

    def _heed(self, reply: FrameReply) -> None:
        if reply.fenced:
            self.stop(LOST)
        elif reply.cancel:
            self.stop(CANCELLED)

    async def live(self) -> None:
        """Take the run to its end; return when its handler has ended too, which is when there is room for another."""
        with correlated(self._assignment.input.correlation_id), entered(self.run_id):
            try:
                await self._live()
            except BaseException:
                if self._handler is not None:
                    self._handler.cancel()
                raise
            finally:
                self._outbox.close()
            if self._handler is not None and not self._handler.done():
                logger.warning("the handler of the run %s has not ended although it was cancelled", self.run_id)
                self.is_stuck = True
                await asyncio.wait({self._handler})

    async def _live(self) -> None:
        self._outbox.add(encoded(RunEvent(kind=EventKind.STARTED)))
        await self._outbox.flush()
        if not self._stopped.done():
            self._handler = self._site.tasks.create_task(self._handle(), name=f"run {self.run_id}")
            await self._supervise(self._handler)
        if not self._outbox.finished:
            self._outbox.finish([self._end_without_answer()])
        await self._outbox.flush()

    async def _supervise(self, handler: asyncio.Task[None]) -> None:
        limit_s = self._assignment.limits.wall_time_s
        both: set[asyncio.Future[Any]] = {handler, self._stopped}
        await asyncio.wait(both, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not handler.done():
            self.stop(over_time(limit_s))
            await asyncio.wait({handler}, timeout=self._patience_s)

    # --- what comes of it --------------------------------------------------------------------------------------------

    async def _handle(self) -> None:
        """Call the handler, and tell what follows from its answer or failure, unless the run was stopped meanwhile.

        Told from here, the end travels with what the handler has said just before.
        """
        try:
            events = self._answered(await self._call())
        except Exception as error:  # the edge of a run: logged, and the caller is told
            if not self._stopped.done():
                logger.exception("the run %s failed", self.run_id)
            reason = error.code if isinstance(error, OpmasError) else "failed"
            # Ours are sentences for people; of others the type is half of what they say.
            why = error.message if isinstance(error, OpmasError) else f"{type(error).__name__}: {error}"
            events = [self._ended(RunStatus.FAILED, reason, why)]
        if not self._stopped.done():
            self._outbox.finish(events)

    async def _call(self) -> Any:
        function, arguments = self._site.functions.chosen(self._assignment, self._context)
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        inside, loop = contextvars.copy_context(), asyncio.get_running_loop()
        self._in_thread = True
        result = await loop.run_in_executor(self._site.threads, inside.run, function, *arguments)
        self._in_thread = False
        return await result if inspect.isawaitable(result) else result

    def _answered(self, result: Any) -> list[bytes]:
        if isinstance(result, ConfirmationRequest):
            kept = Kept(state=result.state, said=self._context.content, used=self._context.used)
            return [encoded(RunEvent(kind=EventKind.CONFIRMATION, confirmation=kept.along(result)))]
        said, data = self._context.content, plain(self._context.data)
        rest = ""
        if isinstance(result, str):
            text = clean(result)
            rest = text.removeprefix(said)
        elif isinstance(result, dict | BaseModel):
            data |= plain(result)
        elif result is not None:
            raise InvalidRequest(
                f"cannot use what the handler returned: it is of type {type(result).__name__}",
                "Return text, a dict, what ctx.confirm() makes, or nothing.",
            )
        end = RunEnd(status=RunStatus.COMPLETED, content=said + rest, data=data or None, usage=self._usage())
        return [*(encoded(chunk) for chunk in chunks_of(rest)), _last(end)]

    def _end_without_answer(self) -> bytes:
        if not self._stopped.done():
            return self._ended(RunStatus.FAILED, "failed", "CancelledError: the handler cancelled itself")
        verdict = self._stopped.result()
        return self._ended(verdict.status, verdict.reason, verdict.error)

    def _ended(self, status: RunStatus, reason: str, error: str) -> bytes:
        said, told = self._context.content, clean(error)[:_ERROR_CHARS]
        return _last(RunEnd(status=status, content=said, error=told, reason=reason, usage=self._usage()))

    def _usage(self) -> Usage | None:
        used = self._context.used
        return used if used.model_fields_set else None


def _last(end: RunEnd) -> bytes:
    """Encode the end of a run; an answer too long for one event stands in its chunks alone."""
    data = RunEvent(kind=EventKind.END, end=end).encode()
    if len(data) <= EVENT_BYTES:
        return data
    return encoded(RunEvent(kind=EventKind.END, end=end.model_copy(update={"content": ""})))
