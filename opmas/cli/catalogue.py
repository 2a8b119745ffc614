"""Verbs about what there is beside agents: `packages` on disk, `nodes` of the fleet."""

from typing import Annotated

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.connection import get
from opmas.cli.selection import Json


def packages(
    *,
    registered: Annotated[bool | None, Parameter(name="--registered", negative="--unregistered")] = None,
    json: Json = False,
) -> None:
    """List packages on disk, broken ones with their error.

    Args:
        registered: only packages of which there are agents, or (--unregistered) of which there are none
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


def nodes(*, json: Json = False) -> None:
    """List nodes: the AgentManagers of the fleet.

    Args:
        json: one JSON document, as the API answers it
    """
    found = get("/api/v1/nodes")
    if json:
        paper.document(found)
        return
    head = ("NODE", "STATUS", "VERSION", "PID", "AGENTS", "INSTANCES", "DATABASE", "ISOLATION", "MEMORY", "SINCE")
    rows = [
        (
            node["id"],
            node["status"],
            node["version"],
            node["pid"],
            node["agents"],
            node["instances"],
            node["database"],
            node["isolation"],
            paper.size(node.get("memory_bytes")),
            paper.when(node["started_at"]),
        )
        for node in found["nodes"]
    ]
    paper.table(head, rows, ("ISOLATION", "SINCE", "MEMORY", "PID"))
