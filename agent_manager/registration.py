"""The commands on agents themselves: register, update, delete, reload. Who is to run is `commands`' business.

A config reaches the instances that run at once; all else that an operator gives, at their next start.
"""

import asyncio
from contextlib import suppress

import structlog
from pydantic import JsonValue

from agent_manager.agent_row import updated
from agent_manager.catalog import Catalog
from agent_manager.commands import Commands
from agent_manager.launch import rewrite_config
from agent_manager.lifecycle import Phase
from agent_manager.reconcile import Reconciler
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import AgentRow
from opmas.bus import Bus
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded, OpmasError, PackageInvalid
from opmas.wire.manifest import validate_config
from opmas.wire.messages import Command
from opmas.wire.params import ControlParams, NoParams, RegisterParams, UpdateParams
from opmas.wire.status import AgentStatus
from opmas.wire.views import Cause, ControlResult

log = structlog.get_logger(__name__)

# A look at the disk writes to the database, which may be away for long; the caller's time is up before that.
_LOOK_S = 8.0
# Beyond the grace: for SIGKILL, and for the record of the end.
_KILLED_S = 10.0
# Who has not become ready by then has missed the message, and reads the file when it is started again.
_LATE_S = 120.0


class Registration:
    """Makes agents of packages, changes them and takes them away."""

    def __init__(
        self,
        registry: AgentRegistry,
        catalog: Catalog,
        commands: Commands,
        reconciler: Reconciler,
        bus: Bus,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._commands = commands
        self._reconciler = reconciler
        self._bus = bus
        self._tasks = tasks

    async def register(self, agent_id: str, params: RegisterParams, cause: Cause) -> ControlResult:
        """Make an agent of a package; it starts by itself if its package says so."""
        try:
            self._catalog.find(params.package)
        except PackageInvalid:
            await self._look()  # it may just have been put there, or mended
        record = await self._catalog.register(agent_id, params, cause)
        self._reconciler.reconcile(record)
        return _result(record, changed=True)

    async def update(self, agent_id: str, params: UpdateParams, cause: Cause) -> ControlResult:
        """Replace what is given of an agent."""
        record = self._registry.get(agent_id)
        manifest = record.package.manifest if record.package is not None else None
        before = record.row.config
        changed = await self._commands.want(record, cause, lambda row: updated(row, params, manifest))
        if changed:
            self._catalog.announce(record, "updated", cause)
            self._reconciler.reconcile(record)
        if record.row.config != before:
            self._tasks.create_task(self._hand_out(record), name=f"config-{agent_id}")
        return _result(record, changed=changed)

    async def delete(self, agent_id: str, params: ControlParams, cause: Cause) -> ControlResult:
        """Stop an agent and forget it; a package that is still there does not bring it back."""
        record = self._registry.get(agent_id)
        grace = max((m.stop_grace_period for m in map(record.manifest_of, record.ordered()) if m), default=0.0)
        patience = ControlParams(wait=min(max(params.wait, grace + _KILLED_S), 600.0))
        await self._commands.stop(agent_id, patience, cause)
        row: AgentRow = await self._catalog.bury(record, cause)
        return ControlResult(accepted=True, generation=row.generation, status=AgentStatus.STOPPED, changed=True)

    async def reload(self, agent_id: str, _params: NoParams, cause: Cause) -> ControlResult:
        """Look at the packages again, and let the agent's instances read their config again."""
        record = self._registry.get(agent_id)
        await self._look()
        self._catalog.find(record.row.package)
        self._catalog.announce(record, "reloaded", cause)
        self._tasks.create_task(self._hand_out(record), name=f"config-{agent_id}")
        return _result(record, changed=False)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._catalog.look()
        except TimeoutError:
            raise DeadlineExceeded(
                f"cannot finish looking at the packages within {_LOOK_S:g} s",
                "`opmas doctor` shows whether the database answers",
            ) from None

    async def _hand_out(self, record: AgentRecord) -> None:
        """Give living instances their config, and those that are on their way once more when they can listen."""
        await self._hand_out_now(record)
        if not (late := [i for i in record.ordered() if i.phase in {Phase.LAUNCHING, Phase.STARTING}]):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LATE_S):
                while any(instance.phase in {Phase.LAUNCHING, Phase.STARTING} for instance in late):
                    await record.changed.wait()
        await self._hand_out_now(record)

    async def _hand_out_now(self, record: AgentRecord) -> None:
        manifest = record.package.manifest if record.package is not None else None
        living = [instance for instance in record.ordered() if instance.alive]
        if manifest is None or not living:
            return
        try:
            async with record.lock:  # the latest word is to be written and told last
                config = validate_config(manifest, record.row.config)
                for instance in living:
                    await asyncio.to_thread(rewrite_config, instance, manifest, config)
                await self._tell(record.id, config)
        except (OSError, OpmasError) as error:
            log.warning("config_not_handed_out", agent=record.id, reason=str(error), consequence="at its next start")

    async def _tell(self, agent_id: str, config: dict[str, JsonValue]) -> None:
        order = Command(command="reload", agent_id=agent_id, params={"config": config})
        await self._bus.publish(subjects.command(agent_id), order)


def _result(record: AgentRecord, *, changed: bool) -> ControlResult:
    return ControlResult(accepted=True, generation=record.row.generation, status=record.status, changed=changed)
