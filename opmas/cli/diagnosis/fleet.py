"""Checks of the fleet, as the API shows it: API, token, nodes, packages, agents."""

from collections.abc import Iterator
from pathlib import Path

from agent_manager.package import load_package
from opmas.cli import connection, home, paper
from opmas.cli.diagnosis.finding import Finding, fail, ok, warn
from opmas.cli.failure import Exit, Failure

_PATIENCE_S = 3.0


def api() -> Iterator[Finding]:
    """The API answers, and every part behind it is well."""
    try:
        health = connection.get("/health", timeout_s=_PATIENCE_S)
    except Failure as failure:
        yield fail("api", failure.message, failure.hint)
        return
    parts = health.get("parts") or {}
    ill = [f"{name}: {paper.plain(word)}" for name, word in parts.items() if word != "ok"]
    if ill:
        yield fail("api", f"{home.api_url()} is {health.get('status')}: {'; '.join(ill)}", "see the other findings")
    else:
        yield ok("api", f"{home.api_url()} answers, version {health.get('version')}")


def token() -> Iterator[Finding]:
    """There is a token, and the API accepts it."""
    if not home.token():
        what = f"there is no {home.home() / 'admin.token'}"
        yield fail("token", what, "`opmas up` makes it at its first start; elsewhere set OPMAS_TOKEN")
        return
    try:
        connection.get("/api/v1/agents", {"limit": 1}, _PATIENCE_S)
    except Failure as failure:
        if failure.exit is not Exit.DENIED:
            raise
        left_over = "OPMAS_TOKEN is set and may be another node's: unset it, or " if home.named_token() else ""
        yield fail("token", failure.message, left_over + failure.hint)
    else:
        yield ok("token", "the API accepts it")


def nodes() -> Iterator[Finding]:
    """Every node is ready and has its database."""
    for node in connection.get("/api/v1/nodes", timeout_s=_PATIENCE_S)["nodes"]:
        check = f"node {node['id']}"
        if node["database"] != "ok":
            hint = "agents go on; commands are refused until it answers: see the databases above"
            yield fail(check, "its database does not answer", hint)
        elif node["status"] != "ready":
            yield warn(check, f"it is {node['status']}", "it goes on by itself; see its log")
        else:
            yield ok(check, f"ready, {node['agents']} agents, {node['instances']} instances, {node['isolation']}")


def packages() -> Iterator[Finding]:
    """Every package that the manager sees can be used."""
    found = connection.get("/api/v1/packages", timeout_s=_PATIENCE_S)["packages"]
    broken = [package for package in found if package["error"]]
    for package in broken:
        yield fail(f"package {package['folder']}", paper.plain(package["error"]), package["hint"])
    yield ok("packages", f"{len(found) - len(broken)} of {len(found)} can be used")


def packages_on_disk(folder: Path) -> Iterator[Finding]:
    """Every package in the packages folder can be used; for when no manager can be asked."""
    if not folder.is_dir():
        yield warn(
            "packages", f"there is no folder {folder}", "`opmas init NAME` writes a package; or set OPMAS_PACKAGES"
        )
        return
    found = [load_package(manifest.parent) for manifest in sorted(folder.glob("[!_.]*/agent.yaml"))]
    for package in found:
        if package.error:
            yield fail(f"package {package.folder.name}", paper.plain(package.error.message), package.error.hint)
    yield ok("packages", f"{sum(package.error is None for package in found)} of {len(found)} can be used")


def agents() -> Iterator[Finding]:
    """No agent is in trouble."""
    found = connection.get("/api/v1/agents", timeout_s=_PATIENCE_S)["agents"]
    ill = [agent for agent in found if agent["status"] in {"error", "inactive"}]
    for agent in ill:
        what = f"{agent['status']}: {paper.plain(agent.get('reason') or 'no reason is on record')}"
        hint = f"`opmas why {agent['id']}`, `opmas logs {agent['id']}`; then `opmas restart {agent['id']}`"
        retried = agent.get("next_retry_at")
        yield (
            warn(f"agent {agent['id']}", f"{what}; will be tried again", hint)
            if retried
            else fail(f"agent {agent['id']}", what, hint)
        )
    running = sum(agent["status"] == "running" for agent in found)
    yield ok("agents", f"{running} of {len(found)} run, {len(ill)} are in trouble")
