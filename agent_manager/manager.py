"""AgentManager: owns every part of the daemon, brings them up in order, and takes them down in the other.

Coming up: the database, adoption of what lives, the packages, and only then reconcile: what is wanted and what lives
must both be known before anything is started or stopped. NATS is connected meanwhile and waited for by nobody.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog

from agent_manager.adoption import adopt_all, end_all, sweep_dead_slots
from agent_manager.audit import Audit
from agent_manager.bus_health import BusHealth
from agent_manager.catalog import Catalog
from agent_manager.chores import LEASE_S, Chores
from agent_manager.commands import Commands
from agent_manager.connection import OwnLogin
from agent_manager.history import History
from agent_manager.launch import Launcher
from agent_manager.nats import CredentialSource
from agent_manager.news import News
from agent_manager.queries import NodeCondition, Queries
from agent_manager.reconcile import Reconciler
from agent_manager.recorder import Recorder
from agent_manager.registration import Registration
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.reports import Reports
from agent_manager.router import Router
from agent_manager.sd_notify import READY, STOPPING, notify
from agent_manager.settings import CONFIG_FILE, ManagerSettings
from agent_manager.store import Store
from agent_manager.supervisor import Supervisor
from agent_manager.tables import command_table, query_table
from agent_manager.templates import Templates
from agent_manager.venvs import Venvs
from agent_manager.watching import Watching
from opmas import __version__
from opmas.logs import configure
from opmas.settings import SettingsInvalid
from opmas.wire.errors import DatabaseUnavailable, OpmasError

log = structlog.get_logger(__name__)

_DATABASE_RETRY_S = 1.0
_FLUSH_S = 5.0
_KILLED_S = 10.0


class _Finished(Exception):
    """The work is done; handlers and side tasks may end."""


class AgentManager:
    """One node. `run` returns when `stop` was called and the agents have ended, or were left to go on (`keep`)."""

    def __init__(self, settings: ManagerSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._credentials = credentials
        self._incarnation = secrets.token_hex(8)
        self._condition: NodeCondition = "starting"
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reread = asyncio.Event()
        self._leaving = self._settings.service.on_manager_exit == "keep"
        self._due: set[str] = set()
        self._router: Router | None = None
        self._bus_health = BusHealth()
        node = settings.service.node
        self.registry = AgentRegistry(node, settings.home / "run")
        self.store = Store.open(settings.database_url, settings.database.pool_size, settings.database.max_overflow)
        self.recorder = Recorder(self.store, node)
        self.templates = Templates(settings.home / "run", self.recorder.refused_preload)
        self.news = News()
        self.watching = Watching(self.registry, reload=settings.service.reload)
        self.catalog = Catalog(
            self.registry, self.store, self.recorder, settings, self._changed, self.news.tell, self.watching.notice
        )

    def stop(self) -> None:
        """Begin to stop; a second call hurries."""
        (self._hurry if self._stopping.is_set() else self._stopping).set()

    def leave(self) -> None:
        """Begin to stop, but let the agents go on whatever `on_manager_exit` says: another manager is to follow."""
        if not self._stopping.is_set():
            self._leaving = True
            self._stopping.set()

    def reread(self) -> None:
        """Read what settings can change meanwhile (log level, permissions, models), and look at the packages again."""
        self._reread.set()

    async def run(self) -> None:
        """Do the work until told to stop."""
        self.registry.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            async with self._credentials, self.store, asyncio.TaskGroup() as tasks:
                await self._work(tasks)
                raise _Finished  # noqa: TRY301  # the one way to end a task group from inside
        except* _Finished:
            log.info("stopped")
        except* OpmasError as group:
            # A cause that somebody can act on (a newer schema, the node taken over) leaves as itself.
            raise next(_leaves(group)) from None
        finally:
            await self.templates.close()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        home, streams, models = self._settings.home, self._settings.permissions.streams, self._settings.models
        venvs = Venvs(home / "venvs", tasks)
        launcher = Launcher(home, self._credentials, self.templates, venvs, streams, models)
        self.supervisor = Supervisor(self.registry, launcher, self.recorder, tasks, self._changed)
        self.reconciler = Reconciler(self.registry, self.supervisor, self.news.look)
        self.commands = Commands(
            self.registry,
            self.store,
            self.reconciler,
            self.recorder,
            self.catalog.announce,
            lambda: self._condition == "draining",
        )
        tasks.create_task(self._serve(tasks), name="serve")
        if not await self._unless(self._stopping, self._load()):
            if not self._leaving:
                ended = await end_all(self.registry.run_dir, self._settings.service.drain_timeout, _KILLED_S)
                log.info("stopped_unread", instances=ended)
            return
        self._condition = "ready"
        notify(READY, f"STATUS={len(self.registry)} agents")
        log.info("ready", node=self.registry.node, agents=len(self.registry))
        chores = Chores(
            self.registry,
            self.supervisor,
            self.reconciler,
            self.catalog,
            self.recorder,
            self.store,
            self._bus_health,
            self._settings.service,
        )
        for name, chore in chores.by_name(self._incarnation).items():
            tasks.create_task(chore, name=name)
        tasks.create_task(self.catalog.discovery.run(), name="discovery")
        tasks.create_task(self.watching.run(self.commands.renew), name="watching")
        tasks.create_task(self._obey_rereads(launcher), name="reread")
        self.reconciler.reconcile_all()
        await self._stopping.wait()
        await self._drain()

    # --- coming up ----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Learn what is wanted (database, packages) and what lives (run directories)."""
        while True:
            try:
                await self.store.migrate()
                node, lease = self.registry.node, self._incarnation
                # The lock on the data directory, which we hold, proves that this node's last manager is dead.
                await self.store.claim_node(node, lease, LEASE_S, version=__version__, force=True)
                agents, instances = await self.store.agents(), await self.store.instances()
                break
            except DatabaseUnavailable as error:
                notify("STATUS=waiting for the database")
                log.warning("waiting_for_database", reason=error.message, hint=error.hint)
                await asyncio.sleep(_DATABASE_RETRY_S)
        self.recorder.database_ok = True
        self.catalog.know(agents)
        await self.catalog.discovery.look()
        adopted = adopt_all(self.registry, self.supervisor, instances)
        await sweep_dead_slots(self.registry)
        log.info("adopted", instances=adopted)

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        """Connect to NATS, however long that takes, and answer."""
        login = OwnLogin(self._settings, self._credentials)
        bus = await login.connect()
        try:
            self._bus_health.attach(bus)
            commands = self.commands
            registration = Registration(self.registry, self.catalog, commands, self.reconciler, bus, tasks)
            queries = Queries(
                self.registry, self.catalog, self.store, self.recorder, self._bus_health, lambda: self._condition
            )
            audit = Audit(self.store, self.recorder, self.registry.node)
            self._router = Router(
                bus,
                self.registry.node,
                command_table(commands, registration, self.registry),
                query_table(queries, History(self.registry, self.store, self.recorder)),
                self._credentials,
                audit,
                lambda: self._condition,
            )
            tasks.create_task(self.news.run(bus), name="news")
            await Reports(bus, self.registry, self.supervisor).listen(tasks)
            await self._router.listen(tasks)
            log.info("listening", nats=self._credentials.url)
            await login.keep()  # until the task group ends
        finally:
            await bus.close()

    @staticmethod
    async def _unless(event: asyncio.Event, part: Coroutine[Any, Any, None]) -> bool:
        """Await `part`, but not beyond the event; say whether it was finished."""
        async with asyncio.TaskGroup() as both:
            work = both.create_task(part, name="work")
            end = both.create_task(event.wait(), name="end")
            await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
            finished = work.done()
            work.cancel()
            end.cancel()
        return finished

    # --- while it lasts -----------------------------------------------------------------------------------------

    async def _obey_rereads(self, launcher: Launcher) -> None:
        while True:
            await self._reread.wait()
            self._reread.clear()
            try:
                settings = await asyncio.to_thread(ManagerSettings.load, CONFIG_FILE)
            except SettingsInvalid as error:
                log.warning("not_reread", reason=error.message, consequence="the settings stay as they were")
                continue
            configure(settings.service.log_level)
            launcher.streams, launcher.models = settings.permissions.streams, settings.models
            await self.catalog.permit(settings.permissions.allow)
            await self.catalog.discovery.look()
            log.info("reread", log_level=settings.service.log_level, allow=settings.permissions.allow)

    def _changed(self, record: AgentRecord) -> None:
        """Look at an agent and its neighbours soon; a hundred changes of one moment are one look."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._reconcile_due)
        self._due.add(record.id)

    def _reconcile_due(self) -> None:
        due, self._due = self._due, set()
        if self._condition == "starting":
            return
        for agent_id in due:
            record = self.registry.find(agent_id)
            if record is None:
                continue
            manifest = record.package.manifest if record.package is not None else None
            needed = [self.registry.find(name) for name in manifest.depends_on] if manifest is not None else []
            for each in (record, *self.registry.dependents(agent_id), *needed):
                if each is not None:
                    self.reconciler.reconcile(each)
            if record.removed and not record.alive and not record.row.by_hand:
                self.catalog.forget(record)

    # --- going down ---------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        self._condition = "draining"
        notify(STOPPING)
        for record in self.registry:
            record.notify()  # who waits for a convergence that will not come is told so
        if not self._leaving:
            await self._stop_agents()
        try:
            async with asyncio.timeout(_FLUSH_S):
                if self._router is not None:
                    await self._router.settle()
                while self.recorder.pending and await self.recorder.flush():
                    pass
                await self.store.release_node(self.registry.node, self._incarnation)
        except (TimeoutError, DatabaseUnavailable):
            log.warning("not_flushed", consequence="the last changes are missing from the database")

    async def _stop_agents(self) -> None:
        living = [record for record in self.registry if record.alive]
        log.info("draining", agents=len(living), deadline_s=self._settings.service.drain_timeout)
        self.reconciler.draining = True
        self.reconciler.reconcile_all()
        try:
            async with asyncio.timeout(self._settings.service.drain_timeout):
                await self._unless(self._hurry, self._until_all_ended())
        except TimeoutError:
            log.warning("drain_timed_out", consequence="killing what is left")
        for instance in self.registry.instances():
            self.supervisor.hurry(instance)
        try:
            async with asyncio.timeout(_KILLED_S):
                await self._until_all_ended()
        except TimeoutError:
            log.warning("still_alive", instances=[i.id for i in self.registry.instances() if i.alive])

    async def _until_all_ended(self) -> None:
        while living := [record for record in self.registry if record.busy]:
            await living[0].changed.wait()


def _leaves(group: BaseExceptionGroup[OpmasError]) -> Iterator[OpmasError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
