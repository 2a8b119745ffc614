"""Keeps the registry in step with the packages on disk: registers what is new, refreshes what changed, drops what went.

A change of a package reaches its running instances when they are next started, not before; other agents never notice.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from agent_manager.discovery import AgentDiscovery, PackagesChanged
from agent_manager.package import Package
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.settings import ManagerSettings
from agent_manager.store import AgentRow, Store
from opmas.wire.errors import DatabaseUnavailable, ErrorBody
from opmas.wire.manifest import Manifest, refused_subjects
from opmas.wire.messages import now
from opmas.wire.status import Desired
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
    ) -> None:
        self._registry = registry
        self._store = store
        self._recorder = recorder
        self._allow = settings.permissions.allow
        self._on_change = on_change
        self.discovery = AgentDiscovery(settings.packages, settings.service.discovery_interval, self._apply)
        # Agents of which the database knows and the disk, so far, does not.
        self._rows: dict[str, AgentRow] = {}
        self._forgotten: deque[str] = deque()

    def packages(self) -> tuple[Package, ...]:
        """Every package on disk, sound or not."""
        return tuple(self._judged(package) for package in self.discovery.packages)

    def know(self, rows: list[AgentRow]) -> None:
        """Take over what the database knows; called once, before the first look at the disk."""
        self._rows = {row.id: row for row in rows}
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
            record = self._registry.find(package.name)
            if package.duplicate_of is None and (record is None or record.package != package):
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
        record = self._registry.find(package.name)
        if package.manifest is None:
            log.warning("package_broken", folder=package.folder.name, reason=package.error and package.error.message)
            if record is not None and package.duplicate_of is None:
                record.package = package
                self._changed(record, "package_broken", package.error.message if package.error else "")
            return
        if record is None:
            before = self._rows.get(package.name)
            if before is not None and before.deleted:
                return
            row = _row(package, package.manifest, before, None)
            if row != before:
                await self._until_done(lambda: self._store.save_agent(row))
            self._changed(
                self._registry.add(row, package),
                f"package_{'changed' if before else 'registered'}",
                package.folder.name,
            )
            return
        manifest = package.manifest
        await self._until_done(lambda: self._refresh(record, package, manifest))

    async def _refresh(self, record: AgentRecord, package: Package, manifest: Manifest) -> None:
        """Give a known agent its package as it is now."""
        was = record.package
        first_look = was is None and not record.removed
        async with record.lock:  # a command may be changing what is wanted
            before = record.row
            row = _row(package, manifest, before, was.manifest if was is not None else None)
            if row != before:
                await self._store.save_agent(row)
            self._registry.add(row, package)
        record.removed = False
        if first_look and row == before:
            return  # known from the database, and as it was
        if was is not None and was.manifest is None:
            record.forgive()  # what failed for the broken package's sake may try again
        self._changed(record, "package_changed", package.folder.name)

    def _removed(self, package: Package) -> None:
        record = self._registry.find(package.name)
        if record is None or record.package is None or record.package.folder != package.folder:
            return
        record.package, record.removed = None, True
        self._changed(record, "package_removed", package.folder.name)

    def _changed(self, record: AgentRecord, kind: str, detail: str) -> None:
        log.info(kind, agent=record.id, folder=record.row.package)
        self._recorder.happened(record.id, kind, _ON_DISK.model_copy(update={"detail": detail}), status=record.status)
        record.notify()
        self._on_change(record)

    def forget(self, record: AgentRecord) -> None:
        """Drop an agent whose package went and whose instances have ended."""
        self._registry.remove(record.id)
        self._forgotten.append(record.id)
        log.info("agent_forgotten", agent=record.id)

    async def sweep(self) -> None:
        """Remove forgotten agents from the database. Raises `DatabaseUnavailable`; call it again then."""
        while self._forgotten:
            await self._store.forget_agent(self._forgotten[0])
            self._rows.pop(self._forgotten.popleft(), None)

    async def _until_done(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write to the database, waiting for it as long as it is away."""
        while True:
            try:
                return await write()
            except DatabaseUnavailable as error:
                log.warning("catalog_waits", reason=error.message)
                await asyncio.sleep(_RETRY_S)


def _row(package: Package, manifest: Manifest, before: AgentRow | None, was: Manifest | None) -> AgentRow:
    """What the agent's row is to be, given the one before and the manifest it was made from, if that is known."""
    if before is None:
        before = AgentRow(
            id=manifest.name,
            package=package.folder.name,
            name=manifest.name,
            desired=Desired.RUNNING if manifest.autostart else Desired.STOPPED,
            replicas=manifest.replicas,
        )
    replicas = before.replicas
    if was is not None and was.replicas != manifest.replicas:
        replicas = manifest.replicas  # the author's newer word stands above an earlier `scale`
    row = dataclasses.replace(
        before,
        package=package.folder.name,
        type=manifest.type,
        version=manifest.version,
        description=manifest.description,
        labels=dict(manifest.labels),
        capabilities=list(manifest.capabilities),
        replicas=replicas,
    )
    return row if row == before else dataclasses.replace(row, updated_at=now())
