"""Verbs that look at agents: `ls`, `describe`, `events`, `packages`."""

from typing import Annotated, Any

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Exit, Failure

Json = Annotated[bool, Parameter(name="--json", negative=())]

_EVENTS_SHOWN = 10
_LINES_SHOWN = 10


def ls(
    *,
    status: str | None = None,
    type_: Annotated[str | None, Parameter(name="--type")] = None,
    label: str | None = None,
    json: Json = False,
) -> None:
    """List agents.

    Args:
        status: only agents of this status
        type_: only agents of this type
        label: only agents with this label, key=value
        json: one JSON document, as the API answers it
    """
    found = get("/api/v1/agents", {"status": status, "type": type_, "label": label})
    if json:
        paper.document(found)
        return
    head = ("AGENT", "STATUS", "READY", "RESTARTS", "UPTIME", "CPU", "MEMORY", "PACKAGE", "WHY")
    paper.table(head, [_row(agent) for agent in found["agents"]], ("PACKAGE", "CPU", "MEMORY", "UPTIME", "RESTARTS"))
    if not found["agents"]:
        paper.note("no agents: `opmas init NAME` writes a package, `opmas packages` shows what is on disk")


def _row(agent: Document) -> tuple[object, ...]:
    instances: list[Document] = agent["instances"]
    running = sum(instance["status"] == "running" for instance in instances)
    cpu = [i["cpu_percent"] for i in instances if i.get("cpu_percent") is not None]
    memory = [i["memory_bytes"] for i in instances if i.get("memory_bytes") is not None]
    return (
        agent["id"],
        agent["status"],
        f"{running}/{agent['replicas']}",
        sum(instance["restarts"] for instance in instances),
        paper.duration(max((i["uptime_s"] for i in instances if i.get("uptime_s") is not None), default=None)),
        f"{sum(cpu):.1f}%" if cpu else "-",
        paper.size(sum(memory) if memory else None),
        agent["package"],
        agent.get("reason") or "-",
    )


def describe(agent: str, /, *, json: Json = False) -> None:
    """Show an agent, its instances, why it is what it is, the last events and, on error, its last words.

    Args:
        agent: the agent's id
        json: one JSON document: {agent, status, events, lines}
    """
    try:
        view = get(agent_path(agent))
    except Failure as failure:
        raise no_such_agent("describe", agent) if failure.exit is Exit.NOT_FOUND else failure from failure
    health = get(agent_path(agent, "/status"))
    events = get("/api/v1/events", {"agent": agent, "limit": _EVENTS_SHOWN})["events"]
    troubled = view["status"] in {"error", "inactive"}
    lines = get(agent_path(agent, "/logs"), {"tail": _LINES_SHOWN})["lines"] if troubled else []
    if json:
        paper.document({"agent": view, "status": health, "events": events, "lines": lines})
        return
    _facts(view, health)
    _instances(view["instances"])
    if events:
        paper.line()
        _events(events)
    if lines:
        paper.line("\nlast lines")
        for said in lines:
            paper.line(f"  {paper.when(said['time'])} {said['instance']} {paper.plain(said['line'])}")


def _facts(view: Document, health: Document) -> None:
    retry, wanted = view.get("next_retry_at"), view["desired"]
    facts: dict[str, Any] = {
        "agent": view["id"],
        "status": paper.status(view["status"]) + (f", wanted {wanted}" if wanted != view["status"] else ""),
        "why": paper.plain(view.get("reason") or "") + (f" (next try {paper.when(retry)})" if retry else ""),
        "health": health["health"],
        "name": view["name"],
        "type": view["type"],
        "version": view["version"],
        "package": view["package"],
        "description": view["description"],
        "capabilities": ", ".join(view["capabilities"]),
        "labels": ", ".join(f"{key}={value}" for key, value in view["labels"].items()),
        "config": ", ".join(f"{key}={value}" for key, value in view["config"].items()),
        "replicas": view["replicas"],
        "last beat": paper.when(health["details"].get("last_heartbeat")),
    }
    for name, fact in facts.items():
        if fact not in {"", "-"}:
            paper.line(f"{name:<13}{fact if name == 'status' else paper.plain(fact)}")


def _instances(instances: list[Document]) -> None:
    if not instances:
        return
    paper.line()
    head = ("INSTANCE", "STATUS", "PID", "NODE", "UPTIME", "RESTARTS", "CPU", "MEMORY", "LAST EXIT", "WHY")
    paper.table(
        head,
        [
            (
                i["id"],
                i["status"],
                i.get("pid"),
                i["node"],
                paper.duration(i.get("uptime_s")),
                i["restarts"],
                "-" if i.get("cpu_percent") is None else f"{i['cpu_percent']:.1f}%",
                paper.size(i.get("memory_bytes")),
                _exit(i.get("last_exit")),
                i.get("reason"),
            )
            for i in instances
        ],
        ("NODE", "CPU", "MEMORY", "RESTARTS", "UPTIME"),
    )


def _exit(last: Document | None) -> str:
    if not last:
        return "-"
    how = f"signal {last['signal']}" if last.get("signal") else f"code {last.get('exit_code')}"
    return f"{how}, {last['reason']}, {paper.when(last['terminated_at'])}"


def events(agent: str | None = None, /, *, after: int | None = None, limit: int = 50, json: Json = False) -> None:
    """Show status changes and their causes.

    Args:
        agent: only this agent's
        after: only those after this id; without it, the latest
        limit: at most so many
        json: one JSON document, as the API answers it
    """
    try:
        found = get("/api/v1/events", {"agent": agent, "after": after, "limit": limit})
        if agent is not None and not found["events"]:
            get(agent_path(agent))  # an agent that is gone still has its events; one that never was is a mistake
    except Failure as failure:
        if agent is None or failure.exit is not Exit.NOT_FOUND:
            raise
        raise no_such_agent("show the events of", agent) from failure
    if json:
        paper.document(found)
    else:
        _events(found["events"])


def _events(found: list[Document]) -> None:
    rows = [
        (
            e["id"],
            paper.when(e["time"]),
            e.get("instance_id") or e["agent_id"],
            e["kind"],
            e.get("status"),
            _cause(e["cause"]),
        )
        for e in found
    ]
    paper.table(("ID", "TIME", "WHO", "EVENT", "STATUS", "CAUSE"), rows, ("ID",))


def _cause(cause: Document) -> str:
    parts = [cause.get("command"), f"by {cause['actor']}" if cause.get("actor") else "", cause.get("detail")]
    if cause.get("exit_code") is not None:
        parts.append(f"exit code {cause['exit_code']}")
    if cause.get("signal"):
        parts.append(f"signal {cause['signal']}")
    return ", ".join(part for part in parts if part)


def packages(*, registered: bool | None = None, json: Json = False) -> None:
    """List packages on disk, broken ones with their error.

    Args:
        registered: only packages that are registered as agents, or (--no-registered) that are not
        json: one JSON document, as the API answers it
    """
    found = get("/api/v1/packages", {"registered": registered})
    if json:
        paper.document(found)
        return
    rows = [
        (p["name"], p["version"], "yes" if p["registered"] else "no", p["folder"], p["error"])
        for p in found["packages"]
    ]
    paper.table(("PACKAGE", "VERSION", "REGISTERED", "FOLDER", "ERROR"), rows)
