"""The verb `doctor`: runs every check, prints what each found, and exits with 1 if something does not work."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opmas.cli import home, paper
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import Json

if TYPE_CHECKING:
    from opmas.cli.diagnosis.finding import Finding

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def doctor(*, json: Json = False) -> int:
    """Look for what is wrong: machine, data directory, servers, NATS, database, packages, agents.

    Exits with 0 if nothing fails, 1 if something does. Changes nothing.

    Args:
        json: one JSON document: {ok, checks: [{check, verdict: ok|warn|fail, what, hint}, …]}
    """
    findings = list(_examined())
    well = all(finding.verdict != "fail" for finding in findings)
    if json:
        paper.document({"ok": well, "checks": [finding.document() for finding in findings]})
    else:
        _print(findings)
    return Exit.OK if well else Exit.FAILED


def _print(findings: list["Finding"]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        verdict = paper.paint(f"{finding.verdict:<5}", _COLOURS[finding.verdict])
        paper.line(f"{verdict} {finding.check:<{width}}  {paper.plain(finding.what)}")
        if finding.hint:
            paper.line(f"{'':<6}{'':<{width}}  -> {paper.plain(finding.hint)}")
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    paper.note(f"{len(findings)} checks, {failed} failed, {warned} warnings")


def _examined() -> Iterator["Finding"]:
    # Imported late: the servers' settings and libraries cost half a second.
    from opmas.cli.diagnosis import finding, fleet, machine  # noqa: PLC0415
    from opmas.cli.diagnosis.servers import Servers, settled  # noqa: PLC0415

    folder = home.home()
    for check in (machine.python, machine.kernel, machine.open_files, machine.memory):
        yield from check()
    for look in (machine.data_directory, machine.secrets, machine.disk, machine.clock):
        yield from look(folder)
    servers = Servers.load()
    if isinstance(servers, finding.Finding):
        yield servers
    else:
        yield from servers.locks()
        yield from servers.left_behind()
        yield from servers.ports()
        yield from asyncio.run(settled(servers.databases()))
        yield from asyncio.run(settled(servers.nats()))
        if not servers.running and not home.named_url():
            yield from fleet.packages_on_disk(servers.manager.packages)
            return
    yield from fleet.api()
    for ask in (fleet.token, fleet.nodes, fleet.packages, fleet.agents):
        try:
            yield from ask()
        except Failure as failure:
            if failure.exit is Exit.UNREACHABLE:
                return  # which was found already, and why
            if failure.exit is not Exit.DENIED:
                yield finding.fail(ask.__name__, failure.message, failure.hint)
