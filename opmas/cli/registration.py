"""Verbs that make agents of packages and take them away: `register`, `delete`, `sync`."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from opmas.cli import connection, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.control import for_each, report
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import Json, Labels, chosen, parsed

# The API gives the agent's processes 30 s to end.
_GONE_S = 45.0


def register(
    package: str,
    /,
    *,
    id_: Annotated[str | None, Parameter(name="--id")] = None,
    name: str | None = None,
    description: str | None = None,
    label: Labels = None,
    replicas: int | None = None,
    disabled: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> None:
    """Make an agent of a package on disk; several may come from one. It starts by itself if its package says so.

    Args:
        package: the package's name or folder; `opmas packages` lists them
        id_: the agent's id; without it, the package's name
        name: what people call it
        description: what it is for
        label: a label, key=value; may be repeated
        replicas: how many instances it shall have
        disabled: let nothing start it until it is enabled
        json: one JSON document: the agent, as the API answers it
    """
    given: dict[str, object] = {
        "name": name or id_ or package,
        "id": id_,
        "description": description,
        "replicas": replicas,
    }
    given |= {"labels": dict(parsed("register", label)) if label else None, "enabled": False if disabled else None}
    body = {"package": package} | {field: value for field, value in given.items() if value is not None}
    view = connection.send("POST", "/api/v1/agents", body)
    if json:
        paper.document(view)
    else:
        paper.line(f"{view['id']}: {paper.status(view['status'])}")


def delete(*agents: str, label: Labels = None, json: Json = False) -> int:
    """Stop agents and forget them; their packages stay, and do not bring them back.

    Args:
        agents: their ids
        label: every agent with this label, key=value; several: with all of them
        json: one JSON document: {results: [response, …]}
    """
    return report(for_each(chosen("delete", agents, label), _delete), json=json)


def _delete(agent_id: str) -> Document:
    now = datetime.now(UTC).isoformat()
    response = {"status": "success", "command": "delete", "agent_id": agent_id, "timestamp": now}
    try:
        connection.send("DELETE", agent_path(agent_id), timeout_s=_GONE_S)
    except Failure as failure:
        failure = no_such_agent("delete", agent_id) if failure.code == "agent_not_found" else failure
        return response | {"status": "error", "result": None, "error": failure.body()}
    return response | {"result": {"status": "deleted"}, "error": None}


def sync(
    *,
    agent_id: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> int:
    """Make agents like the packages on disk: register what is not registered, refresh what has changed.

    An agent whose package is gone is named and left alone. Exits with 1 when a package is broken.

    Args:
        agent_id: only this agent, or the package of this name
        dry_run: change nothing, only say what would change
        json: one JSON document: {dry_run, changes: [{agent_id, change: register|refresh|broken|gone, detail}, …]}
    """
    before = _agents()
    if agent_id is not None and agent_id not in before | {p["name"]: p for p in _packages()}:
        raise no_such_agent("sync", agent_id)
    if before and not dry_run:
        # The manager looks at all packages, whichever agent is named.
        connection.control("reload", agent_id if agent_id in before else next(iter(before)))
    changes = [change for change in _differences(before) if agent_id in {None, change["agent_id"]}]
    if not dry_run:
        for change in changes:
            if change["change"] == "register":
                body = {"id": change["agent_id"], "name": change["agent_id"], "package": change["detail"]}
                connection.send("POST", "/api/v1/agents", body)
    if json:
        paper.document({"dry_run": dry_run, "changes": changes})
    elif changes:
        paper.table(("AGENT", "CHANGE", "DETAIL"), [tuple(change.values()) for change in changes])
    else:
        paper.note("nothing to change: agents are like the packages on disk")
    return Exit.FAILED if any(change["change"] == "broken" for change in changes) else Exit.OK


def _agents() -> dict[str, Document]:
    return {agent["id"]: agent for agent in get("/api/v1/agents")["agents"]}


def _packages() -> list[Document]:
    found: list[Document] = get("/api/v1/packages")["packages"]
    return found


def _differences(before: dict[str, Document]) -> list[Document]:
    """Tell what differs between the packages on disk and the agents as they were."""
    packages = {package["folder"]: package for package in _packages()}
    changes = []
    for package in packages.values():
        if package["error"]:
            changes.append((package["name"], "broken", package["error"]))
        elif not package["registered"]:
            changes.append((package["name"], "register", package["folder"]))
    for agent in before.values():
        version = packages.get(agent["package"], {}).get("version")
        if agent["package"] not in packages:
            changes.append((agent["id"], "gone", f"there is no {agent['package']}; `opmas delete {agent['id']}`"))
        elif version and version != agent["version"]:
            changes.append((agent["id"], "refresh", f"{agent['version']} -> {version}"))
    return [dict(zip(("agent_id", "change", "detail"), change, strict=True)) for change in sorted(changes)]
