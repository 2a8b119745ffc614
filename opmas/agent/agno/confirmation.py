"""An Agno run that waits for a human: what is asked, what is kept meanwhile, and what the decision makes of it.

The paused run is kept as Agno writes it, with the run of ours and not with the process: any replica goes on with it.
Where several tools wait at once they are asked about one after another, each with its own arguments and its own answer,
and Agno goes on after the last: one answer for all would have to be no if any of them is one.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import JsonValue

from opmas.wire.errors import AgentFailed
from opmas.wire.runs import Decision

State = dict[str, Any]
"""`RunOutput.to_dict()` of a paused run, or that of a team."""


def state_of(output: Any, file_ids: Collection[str] = ()) -> State:
    """Write down a paused run, without the contents of the run's files: whoever goes on with it fetches them again.

    Raises `AgentFailed` if it waits for something that only Agno's own interface gives.
    """
    state: State = json.loads(output.to_json())
    state.pop("events", None)
    for requirement in state.get("requirements") or ():
        tool = requirement["tool_execution"]
        if not tool.get("requires_confirmation"):
            raise AgentFailed(
                f"cannot go on: the tool {tool.get('tool_name')!r} waits for input or for a result from outside",
                "Runs can wait for a yes or no: use requires_confirmation.",
            )
    bare: State = _changed(state, lambda each: {**each, "content": None} if _is_file(each, file_ids) else each)
    return bare if file_ids else state


def filled(state: State, files: Mapping[str, dict[str, Any]]) -> State:
    """Put the run's files back in, given by their ids as Agno writes them."""
    whole: State = _changed(state, lambda each: files[each["id"]] if _is_file(each, files) else each)
    return whole if files else state


def _is_file(each: dict[str, Any], file_ids: Collection[str]) -> bool:
    """Whether it is one of Agno's media, and not something else with an id and a content."""
    return isinstance(each.get("id"), str) and each["id"] in file_ids and bool(each.keys() & {"format", "filename"})


def undecided(state: State) -> dict[str, Any] | None:
    """The first tool that nobody has decided on."""
    for requirement in state.get("requirements") or ():
        if requirement["tool_execution"].get("confirmed") is None:
            tool: dict[str, Any] = requirement["tool_execution"]
            return tool
    return None


def decide(state: State, decision: Decision) -> State:
    """Put `decision` on the first undecided tool, wherever Agno keeps it: requirement, run, and the run of a member."""
    waiting = undecided(state)
    if waiting is None:
        return state
    said: dict[str, JsonValue] = {"confirmed": decision.confirmed}
    if decision.confirmed:
        said["tool_args"] = dict(decision.arguments)
    elif decision.note:
        said["confirmation_note"] = decision.note
    call_id = waiting["tool_call_id"]
    decided: State = _changed(
        state,
        lambda each: (
            {**each, **said} if each.get("tool_call_id") == call_id and each.get("requires_confirmation") else each
        ),
    )
    return decided


def _changed(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Copy JSON with each object in it changed, the inner ones first."""
    if isinstance(value, list):
        return [_changed(each, change) for each in value]
    if isinstance(value, dict):
        return change({key: _changed(each, change) for key, each in value.items()})
    return value
