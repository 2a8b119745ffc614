"""What is on record of runs once all is quiet, and what is wrong with it."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.callers import Asked, Line
from tests.node import Document, Node

_ENDS = ("end", "error")


@dataclass(frozen=True)
class Recorded:
    """A run and the replay of its events."""

    run: Document
    events: list[tuple[int, Document]]

    @property
    def ending(self) -> str:
        """How it ended, in a word."""
        return str(self.run.get("data", {}).get("reason") if self.run["status"] == "failed" else self.run["status"])


def read(node: Node, agent_id: str, run_ids: Collection[str], patience_s: float) -> dict[str, Recorded]:
    """Wait until the runs have ended, for so long in all, and read them."""
    deadline = time.monotonic() + patience_s
    with Line(node) as line:
        return {each: _read(line, f"/api/v1/agents/{agent_id}/runs/{each}", deadline) for each in run_ids}


def _read(line: Line, path: str, deadline: float) -> Recorded:
    status, run = line.get(path)
    while run.get("status") in ("pending", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        status, run = line.get(path)
    assert status == 200, f"{path}: {status} {run}"
    ended = run["status"] in ("completed", "failed")
    return Recorded(run, list(line.stream(f"{path}/stream", 0)) if ended else [])


def total(node: Node, agent_id: str) -> int:
    """Say how many runs of the agent are on record."""
    with Line(node) as line:
        return int(line.get(f"/api/v1/runs?agent={agent_id}&limit=1")[1]["total"])


def faults(asked: Asked, found: Recorded, starts: int, endings: Collection[str]) -> Iterator[str]:
    """Say what is wrong with a run, given how often its handler was started and how it may have ended."""
    if len(set(asked.run_ids)) > 1:
        yield f"one key made several runs: {set(asked.run_ids)}"
    if found.ending not in endings:
        yield f"it is {found.ending}: {found.run}"
    if starts > 1 or (found.ending == "completed" and starts != 1):
        yield f"its handler was started {starts} times"
    yield from _faults_of_log(found)
    if found.ending == "completed":
        wanted = "".join(f"{number} " for number in range(asked.body["params"]["pieces"]))
        if (said := content(found.events)) != wanted or found.run["content"] != wanted:
            yield f"it says {said!r} in pieces and {found.run['content']!r} as a whole instead of {wanted!r}"
    if asked.streamed and asked.events != found.events:
        yield f"its stream, opened {asked.openings} times, is not its record: {shown(asked.events)}"


def _faults_of_log(found: Recorded) -> Iterator[str]:
    numbers = [number for number, _ in found.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the numbers of its events have gaps or come twice: {numbers}"
    kinds = Counter(event["type"] for _, event in found.events)
    if sum(kinds[kind] for kind in _ENDS) != 1 or found.events[-1][1]["type"] not in _ENDS:
        yield f"it has not exactly one end: {kinds}"
    if kinds["start"] > 1:
        yield f"it was started {kinds['start']} times by its record"


def content(events: list[tuple[int, Document]]) -> str:
    """Join the pieces of the answer."""
    return "".join(event.get("content") or "" for _, event in events if event["type"] == "chunk")


def shown(events: list[tuple[int, Document]]) -> str:
    """Put events in few words, with the times that a search in the logs needs."""
    return ", ".join(f"{number} {event['type']} {event['timestamp'][11:23]}" for number, event in events)


def starts(journal: str) -> Mapping[str, list[str]]:
    """Read the scribe's journal: for each run the instances that started its handler."""
    found: dict[str, list[str]] = {}
    for line in journal.splitlines():
        run_id, attempt, instance_id = line.split()
        found.setdefault(run_id, []).append(f"{instance_id} (attempt {attempt})")
    return found
