"""Verbs about this OPMAS as a whole: `status`, `token`, `env`."""

import os
import shlex
from typing import Annotated

from cyclopts import Parameter

from opmas.cli import home, paper
from opmas.cli.connection import Document, get
from opmas.cli.failure import Exit, Failure

_PROBE_S = 3.0


def status(*, json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Show what runs in this OPMAS_HOME; exits with 0 if all is well, 1 if something is not, 3 if nothing runs.

    Args:
        json: one JSON document: {home, url, nats_url, processes, health}
    """
    record = home.up_record()
    processes = {name: {"pid": pid, "alive": _alive(pid)} for name, pid in record.get("pids", {}).items()}
    health = _health()
    facts = {
        "home": str(home.home()),
        "url": home.api_url(),
        "nats_url": home.nats_url(),
        "processes": processes,
        "health": health,
    }
    if json:
        paper.document(facts)
    else:
        _print(facts)
    if not health and not any(process["alive"] for process in processes.values()):
        return Exit.NOT_FOUND
    return Exit.OK if health and health["status"] == "ok" else Exit.FAILED


def _print(facts: Document) -> None:
    health = facts["health"]
    for name in ("home", "url", "nats_url"):
        paper.line(f"{name:<10}{facts[name]}")
    paper.line(f"{'health':<10}{health['status'] if health else 'the API does not answer'}")
    if health:
        paper.line(f"{'agents':<10}{health['registered_agents']}")
    rows = [
        (name, process["pid"], "running" if process["alive"] else "gone")
        for name, process in facts["processes"].items()
    ]
    if rows:
        paper.line()
        paper.table(("PROCESS", "PID", "STATUS"), rows)
    parts = {name: word for name, word in (health["parts"] if health else {}).items() if word != "ok"}
    for name, word in parts.items():
        paper.note(f"{name}: {paper.plain(word)}")
    if not health and not rows:
        paper.note("nothing runs here: start it with `opmas up`, or set OPMAS_HOME")


def _health() -> Document | None:
    try:
        return get("/health", timeout_s=_PROBE_S)
    except Failure:  # the absence of an answer is the answer
        return None


def _alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def token() -> None:
    """Print the admin token."""
    paper.line(_token())


def _token() -> str:
    found = home.token()
    if not found:
        raise Failure(
            f"cannot find the admin token: there is no {home.home() / 'admin.token'}",
            "`opmas up` makes it at its first start; or set OPMAS_HOME",
            "not_found",
        )
    return found


def env() -> None:
    """Print shell exports: after `eval "$(opmas env)"`, curl and the nats tool find this OPMAS."""
    values = {"OPMAS_URL": home.api_url(), "OPMAS_TOKEN": _token(), "NATS_URL": home.nats_url()}
    if creds := home.nats_creds():
        values["NATS_CREDS"] = str(creds)
    for name, value in values.items():
        paper.line(f"export {name}={shlex.quote(value)}")
