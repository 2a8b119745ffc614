"""Checks of the servers of this OPMAS_HOME: settings, locks, ports, NATS and databases, each asked directly."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from agent_manager.nats import EmbeddedServer
from agent_manager.ports import port_holder, require_free
from agent_manager.process.slot import Slot
from agent_manager.settings import CONFIG_FILE as MANAGER_CONFIG
from agent_manager.settings import ManagerSettings
from management_api.settings import CONFIG_FILE as API_CONFIG
from management_api.settings import ApiSettings
from opmas.bus import Bus
from opmas.cli import home as place
from opmas.cli.diagnosis.finding import Finding, fail, ok, warn
from opmas.cli.failure import Failure
from opmas.database.database import Database
from opmas.wire import subjects
from opmas.wire.errors import OpmasError
from opmas.wire.messages import Query, Response, now
from opmas.wire.views import HealthView

_PATIENCE_S = 3.0
# Beyond this, fresh tokens and credentials are refused.
_SKEW_S = 10.0


class Servers:
    """What the settings say there should be, and who holds the locks."""

    def __init__(self, manager: ManagerSettings, api: ApiSettings) -> None:
        self.manager = manager
        self.api = api
        self.home = manager.home
        self.up_pid = place.lock_holder(self.home / "up.lock")
        self.manager_pid = place.lock_holder(self.home / "manager.lock")
        self.record: Mapping[str, int] = place.up_record().get("pids", {}) if self.up_pid else {}

    @classmethod
    def load(cls) -> "Servers | Finding":
        """Read both servers' settings, or say what is wrong with them."""
        try:
            return cls(ManagerSettings.load(MANAGER_CONFIG), ApiSettings.load(API_CONFIG))
        except OpmasError as error:
            return _failed("settings", error)
        except Failure as failure:
            return fail("home", failure.message, failure.hint)

    @property
    def running(self) -> bool:
        """Whether a server of this home runs on this machine."""
        return self.up_pid is not None or self.manager_pid is not None

    def locks(self) -> Iterator[Finding]:
        """`opmas up` and what it keeps alive, by the locks they hold."""
        if self.up_pid is None and self.manager_pid is None:
            yield warn("processes", f"nothing runs in {self.home}", "`opmas up` starts NATS, a manager and the API")
            return
        if self.up_pid is not None:
            yield ok("up", f"pid {self.up_pid}")
        if self.manager_pid is not None:
            yield ok("manager", f"pid {self.manager_pid}")
        else:
            yield fail("manager", "`opmas up` runs, but no manager", "it restarts one; its output says why it ends")

    def left_behind(self) -> Iterator[Finding]:
        """No instance runs without a manager."""
        if self.manager_pid is not None:
            return
        shims = [shim for shim in (Slot(path).adopt() for path in self.home.glob("run/*/*/")) if shim is not None]
        for shim in shims:
            shim.close()
        if shims:
            what = f"{len(shims)} instances run without a manager"
            yield warn("left behind", what, "`opmas up` takes them over, `opmas down` ends them")

    def ports(self) -> Iterator[Finding]:
        """The ports are held by ours, or free for them."""
        for check, face in zip(("port of the API", "port of runs"), self.api.service.faces(), strict=False):
            yield self._port(check, *face, self.record.get("api"))
        if not self.manager.nats.url:
            nats = self.record.get("nats-server")
            yield self._port("port of NATS", "127.0.0.1", self.manager.nats.port, "OPMAS_NATS__PORT", nats)

    def _port(self, check: str, host: str, port: int, setting: str, ours: int | None) -> Finding:
        holder = port_holder(port) if port else None
        if holder is not None and (holder.pid == ours or (ours is None and self.running)):
            return ok(check, f"{port}, held by {holder}")
        if self.running and port:
            if holder is None:
                what = f"nobody listens on {port}: what runs here was started with another {setting}"
                return warn(check, what, f"set {setting} in this shell as it was for `opmas up`")
            what = f"{port} is held by {holder}, not by this OPMAS"
            return fail(check, what, f"set {setting}, or stop the other; then `opmas up`")
        try:
            require_free(host, port, setting)
        except OpmasError as error:
            return _failed(check, error)
        return ok(check, f"{port or 'any'}, free")

    async def nats(self) -> AsyncIterator[Finding]:
        """NATS lets the command line in with its credentials, a manager answers there, and the server is well."""
        settings = self.manager.nats
        if not settings.url and not self.running:
            return
        creds = None if settings.user else place.nats_creds()
        try:
            bus = await Bus.connect(
                place.nats_url(),
                name="doctor",
                creds=creds,
                user=settings.user or None,
                password=settings.password.get_secret_value() or None,
                tls=settings.tls_context(),
                timeout_s=_PATIENCE_S,
            )
        except (OpmasError, OSError, ValueError) as error:
            yield _failed("nats", error, "is it up (`opmas status`)? is NATS_URL right, are NATS_CREDS its own?")
            return
        yield ok("nats", f"{place.nats_url()} lets us in" + (f" with {creds}" if creds else ""))
        try:
            for finding in await _manager_on(bus):
                yield finding
        finally:
            await bus.close()
        if not settings.url:
            yield await self._ailment()

    async def _ailment(self) -> Finding:
        server = EmbeddedServer(self.home)
        try:
            ailment = await server.ailment() if await server.adopt() else "it has just ended"
        except (OpmasError, OSError, ValueError) as error:
            return _failed("nats health", error, "`opmas status`; its log is nats/nats-server.log in OPMAS_HOME")
        if ailment:
            hint = "is the disk full? `opmas up` restarts it once there is room; nats/nats-server.log in OPMAS_HOME"
            return fail("nats health", f"nats-server says: {ailment}", hint)
        return ok("nats health", "nats-server is well")

    async def databases(self) -> AsyncIterator[Finding]:
        """Both servers' databases answer."""
        urls = {"database of the manager": self.manager.database_url, "database of the API": self.api.database_url}
        for check, url in urls.items():
            file = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ""
            if _is_missing(file):  # to connect would make it
                yield ok(check, f"{file} is not there yet; the server makes it")
                continue
            try:
                async with Database.open(url, timeout_s=_PATIENCE_S) as database:
                    await database.ping()
            except OpmasError as error:
                yield _failed(check, error, "see OPMAS_DATABASE__URL; agents go on meanwhile, commands are refused")
            else:
                yield ok(check, f"SQLite: {file}" if file else "PostgreSQL answers")


def _is_missing(file: str) -> bool:
    return bool(file) and not Path(file).exists()


async def _manager_on(bus: Bus) -> list[Finding]:
    try:
        answer = await bus.request(subjects.QUERY, Query(query="health", timestamp=now()), _PATIENCE_S)
        response = Response.model_validate_json(answer.data)
        health = HealthView.model_validate(response.result)
    except (OpmasError, ValueError, TimeoutError) as error:
        return [_failed("manager on NATS", error, "`opmas status` shows whether one runs; it retries NATS by itself")]
    skew = abs((now() - response.timestamp).total_seconds())
    found = [_health(health)]
    if skew > _SKEW_S + _PATIENCE_S:
        what = f"the clock of node {health.node} differs from ours by {skew:.0f} s"
        found.append(fail("clock", what, "set both (`timedatectl`, `chronyc tracking`): tokens are dated by them"))
    return found


def _health(health: HealthView) -> Finding:
    ill = ", ".join(f"{part}: {word}" for part, word in health.checks.items() if word != "ok")
    if ill:
        what = f"{health.node} is {health.status}: {ill}"
        return fail("manager on NATS", what, "it goes on by itself when that is back")
    return ok("manager on NATS", f"{health.node} answers, {health.agents} agents")


def _failed(check: str, error: Exception, hint: str = "") -> Finding:
    if isinstance(error, OpmasError):
        return fail(check, error.message, error.hint or hint)
    return fail(check, str(error) or type(error).__name__, hint)


async def settled(findings: AsyncIterator[Finding]) -> list[Finding]:
    """Return what a check finds, or that it took too long."""
    found = []
    try:
        async with asyncio.timeout(4 * _PATIENCE_S):
            found += [finding async for finding in findings]
    except TimeoutError:
        found.append(fail("time", "a check had no answer in 12 s", "see the findings above; try again"))
    return found
