"""Verbs that command agents: `start`, `stop`, `restart`, `scale`, `enable`, `disable`, `reload`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from opmas.cli import connection, paper
from opmas.cli.connection import Document, no_such_agent
from opmas.cli.failure import Exit, Failure, exit_of
from opmas.cli.selection import DEFAULT, Choice, Json, chosen

# So many requests under way at once, for what the API has no batch of.
_AT_ONCE = 16
# As many as the API takes in one request.
_BATCH = 1000


def start(*agents: str, choice: Choice = DEFAULT) -> int:
    """Start agents, and wait until they run.

    Args:
        agents: their ids
    """
    return _command("start", agents, choice)


def stop(*agents: str, choice: Choice = DEFAULT) -> int:
    """Stop agents, and wait until they have ended.

    Args:
        agents: their ids
    """
    return _command("stop", agents, choice)


def restart(*agents: str, choice: Choice = DEFAULT) -> int:
    """Restart agents, and wait until they run again.

    Args:
        agents: their ids
    """
    return _command("restart", agents, choice)


def enable(*agents: str, choice: Choice = DEFAULT) -> int:
    """Let agents be started again; those that were to run before they were disabled do.

    Args:
        agents: their ids
    """
    return _command("enable", agents, choice)


def disable(*agents: str, choice: Choice = DEFAULT) -> int:
    """Stop agents, and let nothing start them until they are enabled.

    Args:
        agents: their ids
    """
    return _command("disable", agents, choice)


def scale(*words: str, choice: Choice = DEFAULT) -> int:
    """Set how many instances agents have.

    Args:
        words: ids, then the number: opmas scale echo 3
    """
    if not words or not words[-1].isdecimal():
        raise Failure("cannot scale: the last word must be the number of instances", "opmas scale echo 3", "usage")
    count = int(words[-1])
    ids = chosen("scale", words[:-1], choice.label, everyone=choice.all_)
    responses = for_each(ids, lambda agent_id: send("scale", agent_id, choice.patience_s, {"replicas": count}))
    return report(responses, json=choice.json, more=f", {count} instance{'' if count == 1 else 's'}")


def reload(*agents: str, json: Json = False) -> int:
    """Look at the packages again, and give agents their config anew, without a restart.

    Args:
        agents: their ids; without any, all agents
        json: one JSON document: {results: [response, …]}
    """
    ids = list(dict.fromkeys(agents)) or chosen("reload", (), None, everyone=True)
    return report(_sent("reload", ids, 0.0), json=json)


def _command(command: str, agents: tuple[str, ...], choice: Choice) -> int:
    ids = chosen(command, agents, choice.label, everyone=choice.all_)
    return report(_sent(command, ids, choice.patience_s), json=choice.json)


def _sent(command: str, agents: list[str], wait_s: float) -> list[Document]:
    """Send a command to one agent or, in one request, to many: waiting for one must not keep the next from it."""
    if len(agents) == 1:
        return [send(command, agents[0], wait_s)]
    parts = [agents[start : start + _BATCH] for start in range(0, len(agents), _BATCH)]
    return [response for part in parts for response in _sent_at_once(command, part, wait_s)]


def _sent_at_once(command: str, agents: list[str], wait_s: float) -> list[Document]:
    path, body = f"/api/v1/agents/batch?wait={wait_s:g}", {"action": command, "agent_ids": agents}
    try:
        answer = connection.send("POST", path, body, connection.ANSWER_S + wait_s)
    except Failure as failure:
        return [_failed(command, agent_id, failure) for agent_id in agents]
    return [_explained(command, *each) for each in zip(agents, answer["results"], strict=True)]


def send(command: str, agent_id: str, wait_s: float, body: Document | None = None) -> Document:
    """Send one agent a command and return the response, whatever went wrong."""
    try:
        response = connection.control(command, agent_id, wait_s, body)
    except Failure as failure:
        response = _failed(command, agent_id, failure)
    return _explained(command, agent_id, response)


def _failed(command: str, agent_id: str, failure: Failure) -> Document:
    now = datetime.now(UTC).isoformat()
    response = {"status": "error", "command": command, "agent_id": agent_id, "result": None, "timestamp": now}
    return response | {"error": failure.body()}


def _explained(command: str, agent_id: str, response: Document) -> Document:
    if response["error"] and response["error"]["code"] == "agent_not_found":
        return response | {"error": no_such_agent(command, agent_id).body()}
    return response


def for_each(agents: list[str], act: Callable[[str], Document]) -> list[Document]:
    """Do to every agent what the API does to one at a time, to many of them at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(act, agents))


def report(responses: list[Document], *, json: bool, more: str = "") -> int:
    """Print what became of each agent, with `more` of those that went well; return the exit code for them all."""
    for response in responses:
        if response["error"]:
            error = response["error"]
            paper.note(f"opmas: {error['message']}" + (f"\n  hint: {error['hint']}" if error["hint"] else ""))
        elif not json:
            paper.line(f"{response['agent_id']}: {paper.status(response['result']['status'])}{more}")
    if json:
        paper.document({"results": responses})
    codes = {exit_of(response["error"]["code"]) for response in responses if response["error"]}
    return codes.pop() if len(codes) == 1 else Exit.FAILED if codes else Exit.OK
