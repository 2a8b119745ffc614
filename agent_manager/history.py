"""The queries about the past: events, audit, and why an agent is what it is. They change nothing."""

from agent_manager.paging import page
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRegistry
from agent_manager.store import EventRow, Store
from agent_manager.why import explain
from opmas.wire.errors import DatabaseUnavailable
from opmas.wire.params import AuditParams, EventsParams
from opmas.wire.views import AuditEntry, AuditView, Cause, EventsView, EventView, WhyView

# The causes of what is now lie further back only where an agent was restarted a hundred times.
_EVENTS_OF_WHY = 300
_LOOKS = 3


class History:
    """Answers from what was recorded."""

    def __init__(self, registry: AgentRegistry, store: Store, recorder: Recorder) -> None:
        self._registry = registry
        self._store = store
        self._recorder = recorder

    async def events(self, agent_id: str | None, params: EventsParams) -> EventsView:
        """What happened."""
        await self._saved()
        views = [_view(row) for row in await self._store.events(agent_id, after=params.after, limit=params.limit)]
        shown = page(views, params.after)
        return EventsView(events=shown, next=shown[-1].id if shown else (params.after or 0))

    async def audit(self, agent_id: str | None, params: AuditParams) -> AuditView:
        """Who commanded what."""
        await self._saved()
        rows = await self._store.audit(agent_id, after=params.after, limit=params.limit)
        views = [
            AuditEntry(
                id=row.id or 0,
                time=row.time,
                node=row.node,
                publisher=row.publisher,
                command=row.command,
                agent_id=row.agent_id,
                params=row.params,
                outcome=row.outcome,
                error_code=row.error_code or "",
                correlation_id=row.correlation_id or "",
            )
            for row in rows
        ]
        shown = page(views, params.after)
        return AuditView(audit=shown, next=shown[-1].id if shown else (params.after or 0))

    async def why(self, agent_id: str) -> WhyView:
        """The causes of an agent's status; without the database, as far as they are remembered here."""
        record = self._registry.get(agent_id)
        rows: list[EventRow] = []
        missing = ""
        for _ in range(_LOOKS):
            before = record.changed
            try:
                await self._saved()
                rows = await self._store.events(agent_id, limit=_EVENTS_OF_WHY)
            except DatabaseUnavailable as error:
                rows, missing = self._recorder.unsaved(agent_id), error.message
            if record.changed is before:
                break  # what is known of the agent and what happened to it are of the same moment
        return explain(record, self._registry, [_view(row) for row in rows], missing=missing)

    async def _saved(self) -> None:
        """Have all that happened in the database. Raises `DatabaseUnavailable`."""
        # While the database is known to be away, nobody is kept waiting for it to say so again.
        if not self._recorder.database_ok or not await self._recorder.flush():
            raise DatabaseUnavailable("the database does not answer", "what happens is kept; try again in a moment")


def _view(row: EventRow) -> EventView:
    return EventView(
        id=row.id or 0,
        time=row.time,
        node=row.node,
        agent_id=row.agent_id,
        instance_id=row.instance_id or "",
        kind=row.kind,
        status=row.status,
        cause=Cause.model_validate(row.cause),
    )
