"""The verb `wait`, which only watches: until agents run or have stopped, and no longer than there is hope."""

import time
from typing import Annotated, Literal

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Failure
from opmas.cli.selection import WAIT_S, Json, Labels, chosen

_LOOK_S = 0.2


def wait(
    *agents: str,
    label: Labels = None,
    for_: Annotated[Literal["running", "stopped"], Parameter(name="--for")] = "running",
    timeout: float = WAIT_S,
    json: Json = False,
) -> None:
    """Wait until agents run, or have stopped; one that has failed for good ends the wait at once.

    Args:
        agents: their ids
        label: every agent with this label, key=value; several: with all of them
        for_: the status to wait for
        timeout: how many seconds at most, for all of them
        json: one JSON document: the agent's status as the API answers it; of several agents {agents: [status, …]}
    """
    deadline = time.monotonic() + timeout
    views = [_awaited(agent, for_, deadline, timeout) for agent in chosen("wait", agents, label)]
    if json:
        paper.document(views[0] if len(views) == 1 and not label else {"agents": views})
        return
    for view in views:
        paper.line(f"{view['agent_id']}: {paper.status(view['status'])}")


def _awaited(agent: str, wanted: str, deadline: float, timeout: float) -> Document:
    hint = f"`opmas why {agent}` shows the cause"
    while True:
        try:
            view = get(agent_path(agent, "/status"))
        except Failure as failure:
            raise no_such_agent("wait for", agent) if failure.code == "agent_not_found" else failure from failure
        if view["status"] == wanted:
            return view
        why = paper.plain(view["details"].get("reason") or f"it is {view['status']}")
        if is_final(view):
            raise Failure(f"cannot see '{agent}' {wanted}: it has failed for good: {why}", hint, "agent_failed")
        if time.monotonic() >= deadline:
            raise Failure(f"cannot see '{agent}' {wanted} within {timeout:g} s: {why}", hint, "deadline_exceeded")
        time.sleep(_LOOK_S)


def is_final(view: Document) -> bool:
    """Say whether an agent is in error and will not be tried again by itself."""
    return view["status"] == "error" and not any(instance.get("next_retry_at") for instance in view["instances"])
