"""One run of Agno's as one of ours: what it says is passed on as it comes, and how it came out is told at the end.

Each of Agno's events becomes one event of the run and is carried in it unchanged, for callers who speak Agno; only
those of the outermost run also mean something to everybody else.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from agno.run.cancel import acancel_run, aget_active_runs

from opmas.agent import RunContext
from opmas.agent.message import clean
from opmas.agent.runs.tool import shown
from opmas.wire.errors import AgentFailed
from opmas.wire.runs import EventKind, RunEvent, ToolCall

_UNSAID = "Agno did not say why"
_PLAIN = frozenset({str, int, float, bool, dict})
# Agno's own objects, which know how they are written.
_AGNO_WRITES = frozenset({"metrics", "tool"})
_write = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
# An event of a run has 600 KB, and this is JSON within JSON: every quote takes three bytes.
_AGNO_CHARS = 150_000


class Relay:
    """Passes on the events of a run, and keeps what it ends with."""

    def __init__(self, ctx: RunContext) -> None:
        self.output: Any = None
        """Agno's own record of the run of an agent or team."""
        self.content: Any = None
        """What a workflow ended with, which gives no record."""
        self._ctx = ctx
        self._error = ""
        self._members: set[str] = set()

    async def follow(self, events: AsyncGenerator[Any, None]) -> None:
        """Pass on `events` until they end. Raises `AgentFailed` when Agno says that the run did.

        Cancelled, it closes the stream of events first: Agno then asks its model for no more, and stores the run as
        cancelled. A team's members stop at their next word.
        """
        try:
            async with aclosing(events) as stream:
                async for event in stream:
                    if getattr(event, "event", None):
                        await self._pass_on(event)
                    else:
                        self.output = event
        except BaseException:
            await self._stop_members()
            raise
        if self._error:
            raise AgentFailed(self._error, "The log of the agent may tell more.")

    async def _pass_on(self, event: Any) -> None:
        kind = event.event.removeprefix("Team")  # teams say the same in other words
        is_outermost = getattr(event, "run_id", None) == self._ctx.run_id
        self._note(kind, event, is_outermost=is_outermost)
        content = event.content if is_outermost and kind == "RunContent" else None
        content = clean(content) if isinstance(content, str) else ""
        if len(content) > _AGNO_CHARS:
            await self._ctx.send(content)
            content = ""
        agno = clean(as_json(event))
        if len(agno) > _AGNO_CHARS:
            agno = _shortened(event)
        if content:
            await self._ctx.emit(RunEvent(kind=EventKind.CHUNK, content=content, agno=agno))
        else:
            tool = _call(event.tool, kind) if kind in _TOOLS and event.tool is not None else None
            face = EventKind.TOOL if tool is not None and is_outermost else EventKind.AGNO
            # With its tool also where it is not shown: the tool calls of a team's members count, too.
            await self._ctx.emit(RunEvent(kind=face, tool=tool, agno=agno))

    def _note(self, kind: str, event: Any, *, is_outermost: bool) -> None:
        """Remember what the event means for the run as a whole."""
        if kind == "ModelRequestCompleted":
            self._ctx.usage(
                model=event.model or "",
                provider=event.model_provider or "",
                input_tokens=event.input_tokens or 0,
                output_tokens=event.output_tokens or 0,
            )
        elif is_outermost:
            self._conclude(kind, event)
        elif kind in ("RunStarted", "RunContinued"):
            self._members.add(event.run_id)
        elif kind == "RunCompleted":
            self._members.discard(event.run_id)

    def _conclude(self, kind: str, event: Any) -> None:
        if kind in ("RunError", "WorkflowError"):
            self._error = str(getattr(event, "content", None) or getattr(event, "error", None) or _UNSAID)
        elif kind in ("RunCancelled", "WorkflowCancelled"):
            # Not by us: we cancel the handler. A hook or tool of the author's has.
            self._error = f"cancelled within the agent: {getattr(event, 'reason', None) or _UNSAID}"
        elif kind == "WorkflowCompleted":
            self.content = event.content

    async def _stop_members(self) -> None:
        """Tell a team's members to stop: they work in tasks of their own, which outlive that of the team."""
        active = await aget_active_runs()
        for run_id in self._members & active.keys():
            await acancel_run(run_id)


_TOOLS = ("ToolCallStarted", "ToolCallCompleted")


def _call(tool: Any, kind: str) -> ToolCall:
    done = kind == "ToolCallCompleted"
    result = shown(tool.result) if done and tool.result is not None else None
    return ToolCall(
        id=tool.tool_call_id or "",
        name=tool.tool_name or "",
        arguments=tool.tool_args or {},
        done=done,
        result=None if tool.tool_call_error else result,
        error=result if tool.tool_call_error else None,
    )


def _shortened(event: Any) -> str:
    """What is left of an event that is too large to be carried: which one it was, and of which run."""
    names = ("created_at", "event", "agent_id", "team_id", "run_id", "session_id")
    kept = {name: getattr(event, name) for name in names if getattr(event, name, None) is not None}
    return json.dumps({**kept, "shortened": True}, separators=(",", ":"))


def as_json(event: Any) -> str:
    """Write an event as Agno does: one line of JSON without what is None.

    Agno copies an event deeply to write it, which for a plain one, as most are, takes six times as long as this.
    """
    fields = {name: value for name, value in vars(event).items() if value is not None}
    for name in _AGNO_WRITES & fields.keys():
        fields[name] = fields[name].to_dict()
    if _PLAIN.issuperset(map(type, fields.values())):
        with suppress(TypeError):  # an author's object within a dict
            return _write(fields)
    return str(event.to_json(separators=(",", ":"), indent=None))
