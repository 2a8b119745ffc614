"""The commands on who is to run: start, stop, restart, scale, enable, disable, status.

Each changes what is wanted and lets reconcile make it so. A command is answered when what is wanted is committed to the
database, or, with `wait`, when it has been reached.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from agent_manager.lifecycle import SETTLED, Phase
from agent_manager.reconcile import Reconciler, needs
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import AgentRow, Store
from agent_manager.supervisor import last_lines
from opmas.wire.errors import AgentFailed, Conflict, DeadlineExceeded, InvalidRequest, ManagerUnavailable
from opmas.wire.messages import now
from opmas.wire.params import ControlParams, ScaleParams
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import Cause, ControlResult

_TROUBLE = frozenset({Phase.WAITING, Phase.FAILED})


class Commands:
    """Carries commands out against the registry and the store."""

    def __init__(
        self,
        registry: AgentRegistry,
        store: Store,
        reconciler: Reconciler,
        recorder: Recorder,
        announce: Callable[[AgentRecord, str, Cause], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._recorder = recorder
        self._announce = announce
        self._store = store
        self._reconciler = reconciler
        self._stopping = stopping

    async def start(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Want the agent, and what it depends on, to run. Starting what runs changes nothing."""
        record = self._registry.get(agent_id)
        _refuse_disabled(record)
        changed = False
        for needed in [*needs(record, self._registry)]:
            changed |= await self._order(needed, cause, _running)
            needed.forgive()
            self._reconciler.reconcile(needed)
        return await self._answer(record, params, _up, changed=changed)

    async def stop(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Want the agent not to run."""
        record = self._registry.get(agent_id)
        changed = await self._order(record, cause, _stopped)
        self._reconciler.reconcile(record)
        return await self._answer(record, params, _down, changed=changed)

    async def restart(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Give the agent new processes, whether or not it runs."""
        record = self._registry.get(agent_id)
        _refuse_disabled(record)
        record.manifest()
        changed = await self._order(record, cause, _restarted)
        self._reconciler.reconcile(record)
        return await self._answer(record, params, _up, changed=changed)

    async def scale(self, agent_id: str, params: ScaleParams, cause: Cause) -> ControlResult:
        """Want so many instances; whether they should run is not changed, except that 0 means none."""
        record = self._registry.get(agent_id)
        many = "1 instance is" if params.replicas == 1 else f"{params.replicas or 'no'} instances are"
        cause = cause.model_copy(update={"detail": f"{many} wanted"})
        changed = await self._order(record, cause, lambda row: _scaled(row, params.replicas))
        self._reconciler.reconcile(record)
        goal = _up if record.wanted and params.replicas else _down
        return await self._answer(record, params, goal, changed=changed)

    async def renew(self, record: AgentRecord, cause: Cause) -> None:
        """Give an agent new processes if it is to have any."""
        await self._order(record, cause, lambda row: _restarted(row) if record.wanted and row.replicas else row)
        self._reconciler.reconcile(record)

    async def enable(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Let the agent be started again; it is, when it was to run."""
        record = self._registry.get(agent_id)
        changed = await self.want(record, cause, lambda row: _enabled(row, enabled=True))
        return await self._settled(record, params, "enabled", cause, changed=changed)

    async def disable(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Stop the agent, and let nothing start it until it is enabled."""
        record = self._registry.get(agent_id)
        changed = await self.want(record, cause, lambda row: _enabled(row, enabled=False))
        return await self._settled(record, params, "disabled", cause, changed=changed)

    async def _settled(
        self, record: AgentRecord, params: ControlParams, kind: str, cause: Cause, *, changed: bool
    ) -> ControlResult:
        if changed:
            self._announce(record, kind, cause)
        self._reconciler.reconcile(record)
        return await self._answer(
            record, params, _up if record.wanted and record.row.replicas else _down, changed=changed
        )

    async def _order(self, record: AgentRecord, cause: Cause, change: Callable[[AgentRow], AgentRow]) -> bool:
        changed = await self.want(record, cause, change)
        if changed:
            self._recorder.happened(record.id, "ordered", cause, status=record.status)
        return changed

    async def want(self, record: AgentRecord, cause: Cause, change: Callable[[AgentRow], AgentRow]) -> bool:
        """Commit a change of what is wanted; nothing is written when nothing changes. Say whether it did."""
        async with record.lock:
            if self._registry.get(record.id) is not record:
                raise Conflict(f"cannot change {record.id!r}: it has just been registered anew", "try again")
            row = change(record.row)
            if row is record.row:
                return False
            row = dataclasses.replace(row, generation=record.row.generation + 1, updated_at=now())
            await self._store.save_agent(row)
            record.row, record.cause = row, cause
            return True

    async def _answer(
        self, record: AgentRecord, params: ControlParams, reached: Callable[[AgentRecord], bool], *, changed: bool
    ) -> ControlResult:
        if params.wait:
            await self._reach(record, params.wait, reached)
        return ControlResult(accepted=True, generation=record.row.generation, status=record.status, changed=changed)

    async def _reach(self, record: AgentRecord, wait_s: float, reached: Callable[[AgentRecord], bool]) -> None:
        generation = record.row.generation
        try:
            async with asyncio.timeout(wait_s):
                while not reached(record):
                    if self._stopping():
                        raise ManagerUnavailable(
                            f"stopped waiting for {record.id!r}: the manager is stopping",
                            "what was asked is on record; the next manager carries it out",
                        )
                    if record.row.generation != generation:
                        raise Conflict(
                            f"stopped waiting for {record.id!r}: another command has changed what is wanted of it",
                            f"`opmas describe {record.id}` shows which",
                        )
                    if reached is _up:
                        await _raise_trouble(record)
                    await record.changed.wait()
        except TimeoutError:
            why = f": {record.reason}" if record.reason else ""
            raise DeadlineExceeded(
                f"accepted, but {record.id!r} is still {record.status.value} after {wait_s:g} s{why}",
                f"it goes on; `opmas describe {record.id}` shows how far it is",
            ) from None


async def _raise_trouble(record: AgentRecord) -> None:
    troubled = next((i for i in record.ordered() if i.phase in _TROUBLE and i.epoch == record.row.epoch), None)
    if troubled is None:
        return
    lines = "\n".join(await asyncio.to_thread(last_lines, troubled))
    again = ", will be tried again" if troubled.phase is Phase.WAITING else ""
    raise AgentFailed(
        f"cannot start {record.id!r}: {troubled.reason}{again}" + (f"\n{lines}" if lines else ""),
        f"`opmas logs {record.id}` shows all it wrote, `opmas describe {record.id}` what became of it",
    )


def _refuse_disabled(record: AgentRecord) -> None:
    if not record.row.enabled:
        raise Conflict(f"cannot start {record.id!r}: it is disabled", f"`opmas enable {record.id}` first")


def _running(row: AgentRow) -> AgentRow:
    if row.desired is Desired.RUNNING and row.replicas:
        return row
    return dataclasses.replace(row, desired=Desired.RUNNING, replicas=row.replicas or 1)


def _stopped(row: AgentRow) -> AgentRow:
    return row if row.desired is Desired.STOPPED else dataclasses.replace(row, desired=Desired.STOPPED)


def _restarted(row: AgentRow) -> AgentRow:
    return dataclasses.replace(_running(row), epoch=row.epoch + 1)


def _enabled(row: AgentRow, *, enabled: bool) -> AgentRow:
    return row if row.enabled is enabled else dataclasses.replace(row, enabled=enabled)


def _scaled(row: AgentRow, replicas: int) -> AgentRow:
    if row.replicas == replicas:
        return row
    if replicas < 0:
        raise InvalidRequest(f"cannot scale to {replicas}", "give a number of instances, 0 or more")
    return dataclasses.replace(row, replicas=replicas)


def _up(record: AgentRecord) -> bool:
    instances = record.ordered()[: record.row.replicas]
    there = len(instances) == record.row.replicas and not any(i.alive for i in record.ordered()[record.row.replicas :])
    return there and all(i.phase in {Phase.RUNNING, Phase.FINISHED} and i.epoch >= record.row.epoch for i in instances)


def _down(record: AgentRecord) -> bool:
    wanted = record.row.replicas if record.wanted else 0
    return all(i.phase in SETTLED and (i.ordinal < wanted or not i.alive) for i in record.ordered())


def status_now(record: AgentRecord) -> ControlResult:
    """What `status` as a command answers."""
    return ControlResult(accepted=True, generation=record.row.generation, status=AgentStatus(record.status))
