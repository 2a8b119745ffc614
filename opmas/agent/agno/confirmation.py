"""An Agno run that waits for a human: what is asked, what is kept meanwhile, and what the decision makes of it.

The paused run is kept as Agno writes it, with the run of ours and not with the process: any replica goes on with it.
Where several tools wait at once they are asked about one after another, each with its own arguments and its own answer,
and Agno goes on after the last: one answer for all would have to be no if any of them is one.
"""

import json
from typing import Any

from pydantic import JsonValue

from opmas.wire.errors import AgentFailed
from opmas.wire.runs import Decision

State = dict[str, Any]
"""`RunOutput.to_dict()` of a paused run, or that of a team."""


def state_of(output: Any) -> State:
    """Write down a paused run. Raises `AgentFailed` if it waits for something that only Agno's own interface gives."""
    state: State = json.loads(output.to_json())
    state.pop("events", None)
    for requirement in state.get("requirements") or ():
        tool = requirement["tool_execution"]
        if not tool.get("requires_confirmation"):
            raise AgentFailed(
                f"cannot go on: the tool {tool.get('tool_name')!r} waits for input or for a result from outside",
                "Runs can wait for a yes or no: use requires_confirmation.",
            )
    return state


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
    decided: State = _with(state, str(waiting["tool_call_id"]), said)
    return decided


def _with(value: Any, tool_call_id: str, said: dict[str, JsonValue]) -> Any:
    if isinstance(value, list):
        return [_with(each, tool_call_id, said) for each in value]
    if not isinstance(value, dict):
        return value
    copied = {key: _with(each, tool_call_id, said) for key, each in value.items()}
    if copied.get("tool_call_id") == tool_call_id and copied.get("requires_confirmation"):
        copied.update(said)
    return copied
