"""Verbs that look at agents: `ls`, `describe`, `why`."""

from typing import Annotated, Any

from cyclopts import Parameter

from opmas.cli import events as happened
from opmas.cli import paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Failure
from opmas.cli.selection import Json, Labels, parsed

HEAD = ("AGENT", "STATUS", "READY", "RESTARTS", "UPTIME", "CPU", "MEMORY", "PACKAGE", "WHY")

_EVENTS_SHOWN = 10
_LINES_SHOWN = 10


def ls(
    *,
    status: str | None = None,
    type_: Annotated[str | None, Parameter(name="--type")] = None,
    label: Labels = None,
    json: Json = False,
) -> None:
    """List agents.

    Args:
        status: only agents of this status
        type_: only agents of this type
        label: only agents with this label, key=value; several: with all of them
        json: one JSON document, as the API answers it
    """
    parsed("list", label or [])
    found = get("/api/v1/agents", {"status": status, "type": type_, "label": label})
    if json:
        paper.document(found)
        return
    paper.table(HEAD, [row(agent) for agent in found["agents"]], ("PACKAGE", "CPU", "MEMORY", "UPTIME", "RESTARTS"))
    if not found["agents"]:
        paper.note("no agents: `opmas init NAME` writes a package, `opmas packages` shows what is on disk")


def row(agent: Document) -> tuple[object, ...]:
    """Set an agent under `HEAD`."""
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
        json: one JSON document: {agent, status, why, events, lines}
    """
    view = _of("describe", agent)
    health, cause = get(agent_path(agent, "/status")), get(agent_path(agent, "/why"))
    events = get("/api/v1/events", {"agent": agent, "limit": _EVENTS_SHOWN})["events"]
    troubled = view["status"] in {"error", "inactive"}
    lines = get(agent_path(agent, "/logs"), {"tail": _LINES_SHOWN})["lines"] if troubled else []
    if json:
        paper.document({"agent": view, "status": health, "why": cause, "events": events, "lines": lines})
        return
    _facts(view, health, cause)
    _instances(view["instances"])
    if cause["steps"]:
        paper.line("\nhow it came to this")
        _steps(cause["steps"])
    if events:
        paper.line()
        happened.table(events)
    if lines:
        paper.line("\nlast lines")
        for said in lines:
            paper.line(f"  {paper.when(said['time'])} {said['instance']} {paper.plain(said['line'])}")


def why(agent: str, /, *, json: Json = False) -> None:
    """Show why an agent is what it is: the shortest chain of causes, and what to do.

    Args:
        agent: the agent's id
        json: one JSON document, as the API answers it
    """
    cause = _of("explain", agent, "/why")
    if json:
        paper.document(cause)
        return
    paper.line(f"{paper.status(cause['status'])}: {paper.plain(cause['summary'])}")
    _steps(cause["steps"])
    if cause["last_lines"]:
        paper.line("last lines")
        for said in cause["last_lines"]:
            paper.line(f"  {paper.plain(said)}")
    if retry := cause.get("next_retry_at"):
        paper.line(f"next try {paper.when(retry)}")
    if cause["hint"]:
        paper.line(f"hint: {paper.plain(cause['hint'])}")


def _of(act: str, agent: str, part: str = "") -> Document:
    try:
        return get(agent_path(agent, part))
    except Failure as failure:
        raise no_such_agent(act, agent) if failure.code == "agent_not_found" else failure from failure


def _steps(steps: list[Document]) -> None:
    width = max((len(step.get("actor") or "-") for step in steps), default=0)
    for step in steps:
        paper.line(
            f"  {paper.when(step.get('time')):<8}  {step.get('actor') or '-':<{width}}  {paper.plain(step['what'])}"
        )


def _facts(view: Document, health: Document, cause: Document) -> None:
    retry, wanted = cause.get("next_retry_at"), view["desired"]
    facts: dict[str, Any] = {
        "agent": view["id"],
        "status": paper.status(view["status"]) + (f", wanted {wanted}" if wanted != view["status"] else ""),
        "why": cause["summary"] + (f" (next try {paper.when(retry)})" if retry else ""),
        "hint": cause["hint"],
        "enabled": "" if view["enabled"] else "no",
        "health": health["health"],
        "name": view["name"],
        "type": view["type"],
        "version": view["version"],
        "package": view["package"],
        "description": view["description"],
        "capabilities": ", ".join(view["capabilities"]),
        "labels": _pairs(view["labels"]),
        "config": _pairs(view["config"]),
        "access": "; ".join(f"{kind}: {', '.join(names)}" for kind, names in view["access"].items() if names),
        "replicas": view["replicas"],
        "last beat": paper.when(health["details"].get("last_heartbeat")),
    }
    for name, fact in facts.items():
        if fact not in {"", "-"}:
            paper.line(f"{name:<13}{fact if name == 'status' else paper.plain(fact)}")


def _pairs(values: Document) -> str:
    return ", ".join(f"{key}={paper.value(value)}" for key, value in values.items())


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
