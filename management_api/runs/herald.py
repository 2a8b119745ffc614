"""What the API tells instances unasked: that there is work, and that a run is to stop. Both may be lost without harm.

A nudge is repeated by the sweeper while there is work; that a run is to stop is said again in the answer to each frame.
"""

import structlog

from management_api.fleet import Fleet
from management_api.runs.hub import Hub
from management_api.store.rows import Changed, RunRow
from opmas.bus import BusUnavailable
from opmas.bus.payload import Payload
from opmas.wire import subjects
from opmas.wire.errors import OpmasError
from opmas.wire.messages import Command, now

logger = structlog.get_logger(__name__)


class Herald:
    """Tells instances, and those who follow runs."""

    def __init__(self, fleet: Fleet, hub: Hub) -> None:
        self._fleet = fleet
        self._hub = hub

    async def nudge(self, agent_id: str) -> None:
        """Say that there is work for an agent."""
        await self._publish(subjects.run(agent_id), b"")

    async def changed(self, change: Changed) -> None:
        """Tell what was done to a run other than by a frame."""
        run = change.run
        if not change.changed:
            return
        self._hub.keep(run.id, change.events, run)
        await self._hub.notify(run.id, run.seq, run)
        # Not if it can be claimed again: a new owner would take the word for its own. The old one is fenced anyway.
        if change.dropped is not None if run.status.is_terminal else run.cancel_requested:
            await self.stop(run)

    async def stop(self, run: RunRow) -> None:
        """Tell whoever has the run to end it."""
        command = Command(command="cancel", agent_id=run.agent_id, params={"run_id": run.id}, timestamp=now())
        await self._publish(subjects.command(run.agent_id), command)

    async def _publish(self, subject: str, payload: Payload) -> None:
        # What waits for a connection would come late, when it may be wrong.
        if (bus := self._fleet.connection) is None:
            return
        try:
            await bus.publish(subject, payload)
        except (BusUnavailable, OpmasError) as error:
            logger.debug("cannot tell the instances", subject=subject, reason=error.message)
