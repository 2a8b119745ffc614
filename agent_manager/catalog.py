"""Keeps the registry in step with the packages on disk: registers what is new, refreshes what changed, drops what went.

A change of a package reaches its running instances when they are next started, not before (unless it is watched:
`watching`); other agents never notice.
"""

import asyncio
import dataclasses
import difflib
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from agent_manager.agent_row import discovered, refreshed, registered
from agent_manager.discovery import AgentDiscovery, PackagesChanged
from agent_manager.package import Package
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.settings import ManagerSettings
from agent_manager.store import AgentRow, Store
from opmas.wire.errors import Conflict, DatabaseUnavailable, ErrorBody, PackageInvalid
from opmas.wire.manifest import Manifest, refused_subjects
from opmas.wire.params import RegisterParams
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_ON_DISK = Cause(actor="manager", command="discover")


class Catalog:
    """The packages of this node and the agents they make."""

    def __init__(
        self,
        registry: AgentRegistry,
        store: Store,
        recorder: Recorder,
        settings: ManagerSettings,
        on_change: Callable[[AgentRecord], None],
        tell: Callable[[AgentRecord, str], None],
        notice: Callable[[AgentRecord, Package | None, Package], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._recorder = recorder
        self._allow = settings.permissions.allow
        self._on_change = on_change
        self._tell = tell
        self._notice = notice
        self.discovery = AgentDiscovery(settings.packages, settings.service.discovery_interval, self._apply)
        # Agents that were deleted: their packages make no new ones by themselves.
        self._tombstones: dict[str, AgentRow] = {}
        # Ids that are being registered at this moment.
        self._coming: set[str] = set()
        self._forgotten: deque[str] = deque()

    def packages(self) -> tuple[Package, ...]:
        """Every package on disk, sound or not."""
        return tuple(self._judged(package) for package in self.discovery.packages)

    def know(self, rows: list[AgentRow]) -> None:
        """Take over what the database knows; called once, before the first look at the disk."""
        self._tombstones = {row.id: row for row in rows if row.deleted}
        for row in rows:
            if not row.deleted:
                self._registry.add(row, None)

    async def _apply(self, difference: PackagesChanged) -> None:
        await self._until_done(self.sweep)
        for package in difference.removed:
            self._removed(package)
        for package in (*difference.added, *difference.changed):
            await self._present(self._judged(package))

    async def permit(self, allow: tuple[str, ...]) -> None:
        """Hold every package against what the operator allows from now on."""
        self._allow = allow
        for package in map(self._judged, self.discovery.packages):
            agents = self._registry.made_from(package)
            if package.duplicate_of is None and (not agents or any(record.package != package for record in agents)):
                await self._present(package)

    def _judged(self, package: Package) -> Package:
        """Hold the package against what the operator allows."""
        if package.manifest is None:
            return package
        refused = refused_subjects(package.manifest, self._allow)
        if not refused:
            return package
        error = ErrorBody(
            code="permission_denied",
            message=f"{package.folder / 'agent.yaml'}: asks for {', '.join(refused)}, which is not allowed",
            hint="add it to permissions.allow in config/agent_manager.yaml, or take it out of permissions.subjects",
        )
        return dataclasses.replace(package, manifest=None, error=error)

    async def _present(self, package: Package) -> None:
        """A package is there: new, changed or broken."""
        agents = self._registry.made_from(package)
        if package.manifest is None:
            reason = package.error.message if package.error else ""
            log.warning("package_broken", folder=package.folder.name, reason=reason)
            for record in agents:
                if package.duplicate_of is None or record.row.by_hand:
                    self._notice(record, record.package, package)
                    record.package = package
                    self._changed(record, "package_broken", reason)
            return
        manifest = package.manifest
        if not self._is_taken(package.name):
            row = discovered(package, manifest)
            await self._until_done(lambda: self._store.save_agent(row))
            self._changed(self._registry.add(row, package), "package_registered", package.folder.name)
        elif not agents and package.name in self._registry:
            log.warning(
                "package_not_registered", folder=package.folder.name, reason="an agent of that id was registered"
            )
        for record in agents:
            await self._until_done(partial(self._refresh, record, package, manifest))

    def _is_taken(self, agent_id: str) -> bool:
        """Whether discovery has no say about this id: somebody has it, is being given it, or was deleted."""
        return agent_id in self._registry or agent_id in self._coming or agent_id in self._tombstones

    async def _refresh(self, record: AgentRecord, package: Package, manifest: Manifest) -> None:
        """Give a known agent its package as it is now."""
        was = record.package
        first_look = was is None and not record.removed
        async with record.lock:  # a command may be changing what is wanted
            if self._registry.find(record.id) is not record:
                return  # or have deleted it
            before = record.row
            row = refreshed(before, package, manifest, was.manifest if was is not None else None)
            if row != before:
                await self._store.save_agent(row)
            self._registry.add(row, package)
        record.removed = False
        if first_look and row == before:
            return  # known from the database, and as it was
        if (was is not None and was.manifest is None) or any(i.unfounded for i in record.instances.values()):
            record.forgive()  # what failed for the broken package's sake may try again
        self._changed(record, "package_changed", package.folder.name)
        self._notice(record, was, package)

    def _removed(self, package: Package) -> None:
        there = any(package.folder == other.folder for other in self.discovery.packages)
        for record in self._registry.made_from(package):
            if record.package is None or record.package.folder != package.folder:
                continue
            if there and record.row.by_hand:
                continue  # the package has got another name, which is nothing to an agent with an id of its own
            record.package, record.removed = None, True
            self._changed(record, "package_removed", package.folder.name)

    # --- by an operator's hand --------------------------------------------------------------------------------------

    def find(self, name: str) -> tuple[Package, Manifest]:
        """Look a package up by its folder or its name. Raises `PackageInvalid` when it cannot be used."""
        packages = self.packages()
        named = [p for p in packages if p.folder.name == name] or [p for p in packages if p.name == name]
        if not named:
            close = difflib.get_close_matches(name, [p.folder.name for p in packages], n=1)
            raise PackageInvalid(
                f"there is no package {name!r}",
                (f"did you mean {close[0]!r}? " if close else "") + "`opmas packages` lists those on disk",
            )
        package = named[0]
        if package.manifest is None:
            error = package.error
            raise PackageInvalid(
                f"cannot use the package {name!r}: {error.message if error else 'it is broken'}",
                error.hint if error else "",
            )
        return package, package.manifest

    async def register(self, agent_id: str, params: RegisterParams, cause: Cause) -> AgentRecord:
        """Make an agent of a package, or make it anew after it was deleted."""
        if agent_id in self._registry or agent_id in self._coming:
            raise Conflict(f"cannot register {agent_id!r}: there is an agent of that id", "choose another id")
        package, manifest = self.find(params.package)
        row = registered(agent_id, package, manifest, params, self._tombstones.get(agent_id))
        self._coming.add(agent_id)
        try:
            await self.sweep()  # it may itself be one that went with its package
            await self._store.save_agent(row)
        finally:
            self._coming.discard(agent_id)
        self._tombstones.pop(agent_id, None)
        # As it is now: it may have changed while the database was asked.
        record = self._registry.add(row, self._in_folder(package))
        record.cause = cause
        self.announce(record, "registered", cause)
        return record

    async def bury(self, record: AgentRecord, cause: Cause) -> AgentRow:
        """Delete an agent without instances; its tombstone keeps discovery from registering it again."""
        async with record.lock:
            if self._registry.get(record.id) is not record or record.busy or record.wanted:
                raise Conflict(f"cannot delete {record.id!r}: it has just been changed", "try again")
            await self._store.delete_agent(record.id)
            row = dataclasses.replace(record.row, deleted=True, generation=record.row.generation + 1)
            self._tombstones[record.id] = row
            self._registry.remove(record.id)
        self.announce(record, "deleted", cause)
        return row

    async def look(self) -> None:
        """Look at the disk now, and make the agents of packages that have none and may have one."""
        await self.discovery.look()
        for package in self.packages():
            if package.manifest is not None and not self._is_taken(package.name):
                await self._present(package)

    def announce(self, record: AgentRecord, kind: str, cause: Cause) -> None:
        """Say what was done to an agent, to people and to reconcile."""
        log.info(kind, agent=record.id, folder=record.row.package, by=cause.actor)
        self._recorder.happened(record.id, kind, cause, status=record.status)
        self._tell(record, kind)
        record.notify()
        self._on_change(record)

    def _in_folder(self, package: Package) -> Package | None:
        there = next((p for p in self.discovery.packages if p.folder == package.folder), None)
        return self._judged(there) if there is not None else None

    # --- as told ----------------------------------------------------------------------------------------------------

    def _changed(self, record: AgentRecord, kind: str, detail: str) -> None:
        self.announce(record, kind, _ON_DISK.model_copy(update={"detail": detail}))

    def forget(self, record: AgentRecord) -> None:
        """Drop an agent whose package went and whose instances have ended."""
        self._registry.remove(record.id)
        self._forgotten.append(record.id)
        self._tell(record, "deleted")
        log.info("agent_forgotten", agent=record.id)

    async def sweep(self) -> None:
        """Remove forgotten agents from the database. Raises `DatabaseUnavailable`; call it again then."""
        while self._forgotten:
            await self._store.forget_agent(self._forgotten[0])
            self._forgotten.popleft()

    async def _until_done(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write to the database, waiting for it as long as it is away."""
        while True:
            try:
                return await write()
            except DatabaseUnavailable as error:
                log.warning("catalog_waits", reason=error.message)
                await asyncio.sleep(_RETRY_S)
