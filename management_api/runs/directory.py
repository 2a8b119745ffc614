"""The API's own copy of the agents: whether one takes runs, also while no manager answers.

A manager is asked when an entry is older than a second, once for all who want to know; when none answers, the last
known entry counts however old it is.
"""

import asyncio
import math
import time
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import structlog

from management_api.auth.principal import Principal
from management_api.fleet import Fleet
from management_api.runs.timings import Timings
from opmas.wire.errors import AgentNotFound, AgentNotRunning, ManagerUnavailable, OpmasError, TakesNoRuns
from opmas.wire.ids import is_agent_id
from opmas.wire.status import Desired
from opmas.wire.views import AgentList, AgentView

# A manager answers from memory. One that is this late is as good as away when something is known without it.
_IMPATIENT_S = 2.0
_RETRY_S = 1.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    view: AgentView
    at: float


class Directory:
    """What is known of each agent."""

    def __init__(self, fleet: Fleet, timings: Timings) -> None:
        self._fleet = fleet
        self._fresh_s = timings.fresh_s
        self._entries: dict[str, _Entry] = {}
        fleet.on_command(self._doubt)
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def keep_up(self) -> None:
        """For ever, learn of all agents whenever NATS is there anew."""
        bus, listed = await self._fleet.bus(), -1
        while True:
            outages = bus.outages
            if outages != listed:
                try:
                    await self._list()
                    listed = outages
                except OpmasError as error:
                    logger.info("cannot list the agents yet", reason=error.message)
            await asyncio.sleep(_RETRY_S)

    async def _list(self) -> None:
        page = await self._fleet.query("list", AgentList)
        while True:
            at = time.monotonic()
            self._entries |= {view.id: _Entry(view, at) for view in page.agents}
            if page.next is None:
                return
            page = await self._fleet.query("list", AgentList, params={"after": page.next})

    async def agent(self, agent_id: str) -> AgentView:
        """Tell what an agent is. Raises `AgentNotFound`, and `ManagerUnavailable` if nobody has ever said."""
        if not is_agent_id(agent_id):
            raise _unknown(agent_id)
        if (view := self._fresh(agent_id)) is not None:
            return view
        lock = self._asking.setdefault(agent_id, asyncio.Lock())
        async with lock:
            return self._fresh(agent_id) or await self._ask(agent_id)

    def _doubt(self, agent_id: str) -> None:
        """Believe what is known no longer than until the next question."""
        if (entry := self._entries.get(agent_id)) is not None:
            self._entries[agent_id] = replace(entry, at=-math.inf)

    def _fresh(self, agent_id: str) -> AgentView | None:
        entry = self._entries.get(agent_id)
        return entry.view if entry is not None and time.monotonic() - entry.at < self._fresh_s else None

    async def _ask(self, agent_id: str) -> AgentView:
        known = self._entries.get(agent_id)
        try:
            view = await self._fleet.query("get", AgentView, agent_id, timeout_s=_IMPATIENT_S if known else None)
        except AgentNotFound:
            self._entries.pop(agent_id, None)
            raise
        except ManagerUnavailable:
            if known is None:
                raise
            view = known.view
        self._entries[agent_id] = _Entry(view, time.monotonic())
        return view

    async def is_deleted(self, agent_id: str) -> bool:
        """Say whether a manager says that there is no such agent; no answer says nothing."""
        try:
            await self._fleet.query("get", AgentView, agent_id)
        except AgentNotFound:
            self._entries.pop(agent_id, None)
            return True
        except OpmasError:
            return False
        return False


def require_runs(view: AgentView, caller: Principal) -> None:
    """Raise unless the caller may ask the agent now: one that starts, restarts or has crashed will come to it."""
    if not caller.sees(view.access):
        raise _unknown(view.id)
    if view.desired is Desired.STOPPED or not view.enabled:
        how = "stopped" if view.enabled else "disabled"
        raise AgentNotRunning(f"cannot run {view.id}: it is {how}", f"start it first: `opmas start {view.id}`")
    if view.instances and all(instance.takes_runs is False for instance in view.instances):
        raise TakesNoRuns(
            f"cannot run {view.id}: it has no handler for runs", "its author gives it one with @run or `runtime: agno`"
        )


def _unknown(agent_id: str) -> AgentNotFound:
    return AgentNotFound(f"there is no agent {agent_id[:80]!r}", "`opmas ls` lists the agents")
