"""Verbs that change agents, `start`, `stop`, `restart`, `scale`, and `wait`, which only watches."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Annotated, Literal

from cyclopts import Parameter

from opmas.cli import connection, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Exit, Failure, exit_of

All = Annotated[bool, Parameter(name="--all", negative=())]
Json = Annotated[bool, Parameter(name="--json", negative=())]
Wait = Annotated[float, Parameter(name="--wait")]
NoWait = Annotated[bool, Parameter(name="--no-wait", negative=())]

_WAIT_S = 30.0
# So many commands under way at once: waiting for one agent must not keep the next from starting.
_AT_ONCE = 16
_LOOK_S = 0.2


def start(*agents: str, all_: All = False, wait: Wait = _WAIT_S, no_wait: NoWait = False, json: Json = False) -> int:
    """Start agents.

    Args:
        agents: their ids
        all_: every agent there is
        wait: how many seconds it may take until they run
        no_wait: return once it is decided
        json: one JSON document: {results: [response, …]}
    """
    return _all(_chosen("start", agents, everyone=all_), _sender("start", wait, no_wait=no_wait), json=json)


def stop(*agents: str, all_: All = False, wait: Wait = _WAIT_S, no_wait: NoWait = False, json: Json = False) -> int:
    """Stop agents.

    Args:
        agents: their ids
        all_: every agent there is
        wait: how many seconds it may take until they have stopped
        no_wait: return once it is decided
        json: one JSON document: {results: [response, …]}
    """
    return _all(_chosen("stop", agents, everyone=all_), _sender("stop", wait, no_wait=no_wait), json=json)


def restart(*agents: str, all_: All = False, wait: Wait = _WAIT_S, no_wait: NoWait = False, json: Json = False) -> int:
    """Restart agents.

    Args:
        agents: their ids
        all_: every agent there is
        wait: how many seconds it may take until they run again
        no_wait: return once it is decided
        json: one JSON document: {results: [response, …]}
    """
    return _all(_chosen("restart", agents, everyone=all_), _sender("restart", wait, no_wait=no_wait), json=json)


def scale(*words: str, all_: All = False, wait: Wait = _WAIT_S, no_wait: NoWait = False, json: Json = False) -> int:
    """Set how many instances agents have.

    Args:
        words: ids, then the number: opmas scale echo 3
        all_: every agent there is
        wait: how many seconds it may take until it is so
        no_wait: return once it is decided
        json: one JSON document: {results: [response, …]}
    """
    if not words or not words[-1].isdecimal():
        raise Failure("cannot scale: the last word must be the number of instances", "opmas scale echo 3", "usage")
    body = {"replicas": int(words[-1])}
    return _all(_chosen("scale", words[:-1], everyone=all_), _sender("scale", wait, body, no_wait=no_wait), json=json)


def _chosen(command: str, agents: tuple[str, ...], *, everyone: bool) -> list[str]:
    if bool(agents) == everyone:
        why = "--all and ids exclude each other" if everyone else "no agent is named"
        raise Failure(f"cannot {command}: {why}", f"opmas {command} AGENT… or --all; `opmas ls` lists them", "usage")
    return [agent["id"] for agent in get("/api/v1/agents")["agents"]] if everyone else list(dict.fromkeys(agents))


def _sender(
    command: str, wait: float, body: Document | None = None, *, no_wait: bool = False
) -> Callable[[str], Document]:
    def send(agent_id: str) -> Document:
        try:
            response = connection.control(command, agent_id, 0.0 if no_wait else wait, body)
        except Failure as failure:
            now = datetime.now(UTC).isoformat()
            response = {"status": "error", "command": command, "agent_id": agent_id, "result": None, "timestamp": now}
            response["error"] = failure.body()
        if response["error"] and response["error"]["code"] == "agent_not_found":
            response["error"] = no_such_agent(command, agent_id).body()
        return response

    return send


def _all(agents: list[str], send: Callable[[str], Document], *, json: bool) -> int:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        responses = list(pool.map(send, agents))
    for response in responses:
        if response["error"]:
            error = response["error"]
            paper.note(f"opmas: {error['message']}" + (f"\n  hint: {error['hint']}" if error["hint"] else ""))
        elif not json:
            paper.line(f"{response['agent_id']}: {paper.status(response['result']['status'])}")
    if json:
        paper.document({"results": responses})
    codes = {exit_of(response["error"]["code"]) for response in responses if response["error"]}
    return codes.pop() if len(codes) == 1 else Exit.FAILED if codes else Exit.OK


def wait(
    agent: str,
    /,
    *,
    for_: Annotated[Literal["running", "stopped"], Parameter(name="--for")] = "running",
    timeout: float = _WAIT_S,
    json: Json = False,
) -> None:
    """Wait until an agent runs, or has stopped.

    Args:
        agent: the agent's id
        for_: the status to wait for
        timeout: how many seconds at most
        json: one JSON document: the agent's status as the API answers it
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            view = get(agent_path(agent, "/status"))
        except Failure as failure:
            raise no_such_agent("wait for", agent) if failure.code == "agent_not_found" else failure from failure
        if view["status"] == for_:
            break
        if time.monotonic() >= deadline:
            why = view["details"].get("reason") or f"it is {view['status']}"
            hint = f"`opmas describe {agent}` shows why"
            raise Failure(f"cannot see '{agent}' {for_} within {timeout:g} s: {why}", hint, "deadline_exceeded")
        time.sleep(_LOOK_S)
    if json:
        paper.document(view)
    else:
        paper.line(f"{agent}: {paper.status(view['status'])}")
