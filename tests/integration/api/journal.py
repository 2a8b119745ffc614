"""Logs and events that grow while they are followed, answered in the manager's place with its cursors."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from opmas.wire.views import Cause, EventsView, EventView, LogLine, LogsView
from tests.integration.api.peer import NOON, Peer

# An event's id is never given again, as in a database that outlives managers.
_numbers = itertools.count(1)


@dataclass
class Journal:
    """What was written and what happened."""

    lines: list[LogLine] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)

    def write(self, *texts: str) -> None:
        self.lines += [LogLine(time=NOON, stream="stdout", instance="echo-0", line=text) for text in texts]

    def happen(self, *agents: str) -> list[int]:
        for agent_id in agents:
            self.events.append(
                EventView(id=next(_numbers), time=NOON, node="n1", agent_id=agent_id, kind="instance", cause=Cause())
            )
        return [event.id for event in self.events[-len(agents) :]]

    def answer_logs(self, agent_id: str | None, params: dict[str, Any]) -> LogsView:
        tail = params.get("tail", 100)
        start = int(params["after"]) if "after" in params else max(0, len(self.lines) - tail)
        shown = self.lines[start : start + 1000]
        return LogsView(agent_id=agent_id or "", lines=tuple(shown), next=str(start + len(shown)))

    def answer_events(self, agent_id: str | None, params: dict[str, Any]) -> EventsView:
        after, limit = params.get("after"), params.get("limit", 100)
        found = [e for e in self.events if agent_id in {None, e.agent_id} and e.id > (after or 0)]
        shown = found[-limit:] if after is None else found[:limit]
        return EventsView(events=tuple(shown), next=shown[-1].id if shown else (after or 0))


def keep(peer: Peer) -> Journal:
    """Have `peer` answer from a journal."""
    journal = Journal()
    peer.answers |= {"logs": journal.answer_logs, "events": journal.answer_events}
    return journal
