"""Verbs that command agents: `start`, `stop`, `restart`, `scale`, `enable`, `disable`, `reload`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from opmas.cli import connection, paper
from opmas.cli.connection import Document, no_such_agent
from opmas.cli.failure import Exit, Failure, exit_of
from opmas.cli.selection import DEFAULT, Choice, Json, chosen

# So many commands under way at once: waiting for one agent must not keep the next from starting.
_AT_ONCE = 16


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
    return _command("scale", words[:-1], choice, {"replicas": int(words[-1])})


def reload(*agents: str, json: Json = False) -> int:
    """Look at the packages again, and give agents their config anew, without a restart.

    Args:
        agents: their ids; without any, all agents
        json: one JSON document: {results: [response, …]}
    """
    return report(agents or chosen("reload", (), None, everyone=True), sender("reload", 0.0), json=json)


def _command(command: str, agents: tuple[str, ...], choice: Choice, body: Document | None = None) -> int:
    ids = chosen(command, agents, choice.label, everyone=choice.all_)
    return report(ids, sender(command, choice.patience_s, body), json=choice.json)


def sender(command: str, wait_s: float, body: Document | None = None) -> Callable[[str], Document]:
    """Make a function that sends one agent the command and returns the response, whatever went wrong."""

    def send(agent_id: str) -> Document:
        try:
            response = connection.control(command, agent_id, wait_s, body)
        except Failure as failure:
            now = datetime.now(UTC).isoformat()
            response = {"status": "error", "command": command, "agent_id": agent_id, "result": None, "timestamp": now}
            response["error"] = failure.body()
        if response["error"] and response["error"]["code"] == "agent_not_found":
            response["error"] = no_such_agent(command, agent_id).body()
        return response

    return send


def report(agents: list[str] | tuple[str, ...], send: Callable[[str], Document], *, json: bool) -> int:
    """Send to all agents at once, print what became of each, and return the exit code that stands for all."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        responses = list(pool.map(send, dict.fromkeys(agents)))
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
