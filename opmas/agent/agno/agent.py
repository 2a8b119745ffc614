"""An Agno object as an agent: what it is called with, and what becomes of what it returns.

Every run works on a copy of its own (`deep_copy` shares models and databases, which hold connections). Towards Agno the
ids of sessions and users carry the workspace: in its store and its memories, tenants never meet.
"""

import inspect
import os
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, JsonValue

from opmas.agent import Agent, Decision, RunContext, resume, run
from opmas.wire.errors import InvalidRequest, PackageInvalid

_DECIDED = "decided"


class Runnable(Protocol):
    """What Agno's agents, teams and workflows have in common."""

    async def arun(self, *arguments: Any, **options: Any) -> Any:
        """Run once."""
        ...


class AgnoAgent(Agent):
    """An agent whose work is an Agno object's; it describes itself by what Agno knows of it."""

    def __init__(self, work: Any) -> None:
        if isinstance(work, type) or not callable(getattr(work, "arun", None)):
            raise PackageInvalid(
                f"the entrypoint is of type {type(work).__name__}, which Agno cannot run",
                "With `runtime: agno` it names an Agno Agent, Team or Workflow: agent = Agent(...).",
            )
        self.work = work
        members = getattr(work, "members", None)
        for each in (work, *(members if isinstance(members, list) else ())):
            _remember_signature(type(each))

    async def start(self) -> None:
        """Give the work a store, if it shall have one and has none."""
        if os.environ.get("OPMAS_AGNO_STORE") == "sqlite" and getattr(self.work, "db", None) is None:
            folder = os.environ.get("OPMAS_DATA_DIR")
            if not folder:
                raise InvalidRequest("cannot open Agno's store: OPMAS_DATA_DIR is not set", "The manager sets it.")
            from opmas.agent.agno.store import open_store  # noqa: PLC0415 - brings SQLAlchemy, which few agents need

            self.work.db = open_store(Path(folder) / "agno.db")
            # A store without the history in the context would make the agent forget what it was told before.
            self.work.add_history_to_context = True

    @run
    async def answer(self, ctx: RunContext) -> Any:
        """Run Agno's object once."""
        from opmas.agent.agno.media import media  # noqa: PLC0415

        work = self._copy(ctx)
        files = await media(ctx) if ctx.files else {}
        return await self._follow(ctx, work.arun(ctx.message, run_id=ctx.run_id, **files, **_options(ctx)))

    @resume(_DECIDED)
    async def decided(self, ctx: RunContext, state: Any, decision: Decision) -> Any:
        """Ask about the next tool that waits, or go on with Agno's run, on whatever replica this is."""
        from opmas.agent.agno.confirmation import decide, filled, undecided  # noqa: PLC0415
        from opmas.agent.agno.media import media  # noqa: PLC0415

        paused = decide(state["run"], decision)
        if undecided(paused):
            return self._ask(ctx, paused)
        files = await media(ctx) if ctx.files else {}
        written = {each.id: each.to_dict() for kind in files.values() for each in kind}
        output = _record(self.work).from_dict(filled(paused, written))
        work = self._copy(ctx)
        return await self._follow(
            ctx, work.acontinue_run(run_response=output, requirements=output.requirements, **_options(ctx))
        )

    async def _follow(self, ctx: RunContext, events: Any) -> Any:
        from opmas.agent.agno.confirmation import state_of  # noqa: PLC0415
        from opmas.agent.agno.relay import Relay  # noqa: PLC0415

        relay, before = Relay(ctx), ctx.content
        await relay.follow(events)
        output = relay.output
        if output is not None and output.is_paused:
            return self._ask(ctx, state_of(output, [file.file_id for file in ctx.files]))
        content = relay.content if output is None else output.content
        return _answer(ctx, content, streamed=ctx.content != before)

    def _ask(self, ctx: RunContext, paused: dict[str, Any]) -> Any:
        from opmas.agent.agno.confirmation import undecided  # noqa: PLC0415

        tool = undecided(paused) or {}
        return ctx.confirm(
            f"{self.name} wants to call {tool.get('tool_name')}",
            tool.get("tool_args") or {},
            state={"run": paused},
            resume=_DECIDED,
            tool_name=str(tool.get("tool_name")),
        )

    def _copy(self, ctx: RunContext) -> Any:
        work = self.work.deep_copy()
        if getattr(work, "db", None) is None and ctx.session.history:
            from agno.models.message import Message  # noqa: PLC0415

            said = [Message(role=turn.role, content=turn.content) for turn in ctx.session.history]
            work.additional_input = [*(work.additional_input or ()), *said]
        return work

    def describe(self) -> dict[str, JsonValue]:
        """Return kind, description, model and tools."""
        model = getattr(self.work, "model", None)
        return {
            "kind": type(self.work).__name__.lower(),
            "description": _text(getattr(self.work, "description", None)),
            "model": {"id": _text(getattr(model, "id", None)), "provider": _text(getattr(model, "provider", None))}
            if model is not None
            else None,
            "tools": [*_tool_names(getattr(self.work, "tools", None))],
        }


def _remember_signature(kind: type) -> None:
    """Make `deep_copy` faster, which asks Python for this signature each time, and takes half of its time for it."""
    function = vars(kind).get("__init__")
    if inspect.isfunction(function):
        function.__dict__.setdefault("__signature__", inspect.signature(function))


def _options(ctx: RunContext) -> dict[str, Any]:
    return {
        "stream": True,
        "stream_events": True,
        "yield_run_output": True,
        "session_id": f"{ctx.workspace_id}/{ctx.session.id}",
        "user_id": f"{ctx.workspace_id}/{ctx.user_id}",
        "dependencies": {
            "workspace_id": ctx.workspace_id,
            "user_id": ctx.user_id,
            "session_id": ctx.session.id,
            "run_id": ctx.run_id,
            "correlation_id": ctx.correlation_id,
            "params": dict(ctx.params),
            "metadata": dict(ctx.metadata),
        },
    }


def _record(work: Any) -> Any:
    """Agno's class for the record of a run of `work`."""
    from agno.run.agent import RunOutput  # noqa: PLC0415
    from agno.run.team import TeamRunOutput  # noqa: PLC0415
    from agno.team import Team  # noqa: PLC0415

    return TeamRunOutput if isinstance(work, Team) else RunOutput


def _answer(ctx: RunContext, content: Any, *, streamed: bool) -> str | None:
    """What the run ends with beside what was streamed: structured content as data, and text that came in one piece."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json")
    if isinstance(content, dict):
        ctx.data.update(content)
    return content if isinstance(content, str) and not streamed else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _tool_names(tools: object) -> list[str]:
    """Name the tools: functions, Agno functions, and every function of a toolkit; a factory of tools names none."""
    if not isinstance(tools, list | tuple):
        return []
    names: list[str] = []
    for tool in tools:
        functions = getattr(tool, "functions", None)
        if isinstance(functions, dict) and functions:
            names += [str(name) for name in functions]
        else:
            names.append(str(getattr(tool, "name", None) or getattr(tool, "__name__", type(tool).__name__)))
    return names
