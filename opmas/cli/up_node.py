"""One node on one machine: what `opmas up` does from the lock to the last process."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Self

import structlog

from agent_manager.nats import EmbeddedServer, EmbeddedSource, Grant, Login, Role
from agent_manager.ports import require_free
from agent_manager.settings import CONFIG_FILE as MANAGER_CONFIG
from agent_manager.settings import ManagerSettings
from management_api.settings import CONFIG_FILE as API_CONFIG
from management_api.settings import ApiSettings
from management_api.token import ensure_token
from opmas import __version__
from opmas.cli.failure import Failure
from opmas.cli.up_servers import Server
from opmas.logs import configure
from opmas.wire.errors import OpmasError

log = structlog.get_logger("opmas.up")

_API_GRACE_S = 10.0
# What the manager needs beyond its agents' drain: the end of those it had to kill, its last writes.
_MANAGER_GRACE_S = 20.0
_CHECK_CREDENTIALS_S = 600.0
_CHECK_HEALTH_S = 15.0
# One look may fall into the moment in which a stream is being recovered.
_ILL_LOOKS = 2
_FREE_SHARE = 0.01
# A former `up`'s API may need a moment to notice that it is dead.
_PORT_PATIENCE_S = 3.0


class _Finished(Exception):
    """Everything has been stopped in order; ends the task group."""


class Node:
    """nats-server, manager, API: started in this order, stopped in the other."""

    def __init__(self, manager: ManagerSettings, api: ApiSettings, *, quiet: bool, reload: bool) -> None:
        self._manager_settings = manager
        self._api_settings = api
        self._quiet = quiet
        self._reload = reload
        self._home = manager.home
        self._nats = None if manager.nats.url else EmbeddedServer(self._home, port=manager.nats.port)
        self._source: EmbeddedSource | None = None
        self._logins: dict[Grant, tuple[Path, Login]] = {}
        self._servers: list[Server] = []
        self._stopping = asyncio.Event()

    @classmethod
    def of_environment(cls, *, quiet: bool, reload: bool) -> Self:
        """Read both servers' settings. Raises `Failure` for a setting that cannot be used."""
        try:
            return cls(ManagerSettings.load(MANAGER_CONFIG), ApiSettings.load(API_CONFIG), quiet=quiet, reload=reload)
        except OpmasError as error:
            raise Failure(error.message, error.hint, error.code) from error

    async def run(self) -> int:
        """Run until told to stop."""
        configure(self._manager_settings.service.log_level)
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock()
        try:
            await self._run()
        except OpmasError as error:
            raise Failure(error.message, error.hint, error.code) from error
        finally:
            (self._home / "up.json").unlink(missing_ok=True)
            os.close(lock)
        return 0

    async def _run(self) -> None:
        self._obey_signals()
        await self._start_nats()
        try:
            await self._ports_free()
            ensure_token(self._home)
            manager = Server("manager", "agent_manager", {"OPMAS_MANAGER__RELOAD": "true"} if self._reload else {})
            api = Server("api", "management_api", self._api_login())
            self._servers = [manager, api]
            await self._serve(manager, api)
        finally:
            if self._nats is not None:
                await self._nats.stop()

    async def _serve(self, manager: Server, api: Server) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for server in self._servers:
                    tasks.create_task(server.keep(), name=server.name)
                if self._nats is not None:
                    tasks.create_task(self._keep_nats(self._nats), name="nats-server")
                    tasks.create_task(self._heal_nats(self._nats), name="nats-health")
                tasks.create_task(self._renew(), name="credentials")
                tasks.create_task(self._announce(), name="announce")
                await self._stopping.wait()
                await api.stop(_API_GRACE_S)
                await manager.stop(self._manager_settings.service.drain_timeout + _MANAGER_GRACE_S)
                raise _Finished  # noqa: TRY301  # how a task group is ended from inside
        except* _Finished:
            pass

    # --- nats-server ----------------------------------------------------------------------------------------------

    async def _start_nats(self) -> None:
        """Start or adopt nats-server, and make the logins of its clients."""
        if self._nats is None:
            return
        await self._nats.start()
        self._source = EmbeddedSource(self._home, self._nats.url)
        for role, name, file in ((Role.API, "api", "api.creds"), (Role.OPERATOR, "cli", "cli.creds")):
            grant, path = Grant(role, name), self._home / "nats" / file
            self._logins[grant] = path, await self._source.issue(grant, path)

    def _api_login(self) -> dict[str, str]:
        if self._nats is None:
            return {}
        path, _ = self._logins[Grant(Role.API, "api")]
        return {"OPMAS_NATS__URL": self._nats.url, "OPMAS_NATS__CREDS": str(path)}

    async def _keep_nats(self, server: EmbeddedServer) -> None:
        while True:
            await server.wait_death()
            if self._stopping.is_set():
                return
            log.warning("nats_server_died", consequence="restarting it; clients come back by themselves")
            try:
                await server.start()
            except OpmasError as error:
                log.warning("nats_server_not_started", reason=error.message)
                await asyncio.sleep(1.0)
            self._write_record()

    async def _heal_nats(self, server: EmbeddedServer) -> None:
        """Restart a nats-server that says it is ill, once there is room on its disk again; clients come back."""
        ill_for = 0
        while True:
            await asyncio.sleep(_CHECK_HEALTH_S)
            try:
                ailment = await server.ailment()
            except (OSError, ValueError):  # it is dying or starting: `_keep_nats` sees to that
                continue
            ill_for = ill_for + 1 if ailment else 0
            if ailment:
                log.warning("nats_server_ill", ailment=ailment, looks=ill_for)
            free = shutil.disk_usage(self._home)
            if ill_for >= _ILL_LOOKS and free.free > free.total * _FREE_SHARE:
                ill_for = 0
                await server.stop()

    async def _renew(self) -> None:
        while self._source is not None:
            await asyncio.sleep(_CHECK_CREDENTIALS_S)
            for grant, (path, login) in list(self._logins.items()):
                if login.renew_at is not None and login.renew_at < time.time():
                    self._logins[grant] = path, await self._source.renew(grant, path)

    # --- the rest -------------------------------------------------------------------------------------------------

    def _lock(self) -> int:
        fd = os.open(self._home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 20).decode(errors="replace").strip()
            os.close(fd)
            raise Failure(
                f"cannot start: `opmas up` already runs in {self._home} (pid {holder})",
                "`opmas status` shows it; `opmas down` stops it; OPMAS_HOME names another folder",
                "conflict",
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        return fd

    async def _ports_free(self) -> None:
        deadline = time.monotonic() + _PORT_PATIENCE_S
        for host, port, setting in self._api_settings.service.faces():
            while True:
                try:
                    require_free(host, port, setting)
                    break
                except OpmasError:
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.1)

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reread)

    def _told_to_stop(self) -> None:
        if self._stopping.is_set():
            for server in self._servers:  # a second Ctrl-C hurries
                server.signal(signal.SIGTERM)
        self._stopping.set()

    def _told_to_reread(self) -> None:
        for server in self._servers:
            if server.name == "manager":
                server.signal(signal.SIGHUP)

    @property
    def url(self) -> str:
        """Where the API listens."""
        return self._urls()[0]

    def _urls(self) -> list[str]:
        service = self._api_settings.service
        scheme = "https" if service.tls.cert else "http"
        return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port, _ in service.faces()]

    def _write_record(self) -> None:
        record = {
            "url": self.url,
            "nats_url": self._nats.url if self._nats else self._manager_settings.nats.url,
            "pids": {"up": os.getpid()}
            | ({"nats-server": self._nats.pid} if self._nats else {})
            | {server.name: server.pid for server in self._servers},
        }
        new = self._home / "up.json.new"
        new.write_text(json.dumps(record, indent=2), encoding="utf-8")
        new.replace(self._home / "up.json")

    async def _announce(self) -> None:
        """Keep the record true, and greet once everything answers."""
        greeted = self._quiet
        known: list[int] = []
        while True:
            pids = [server.pid for server in self._servers]
            if pids != known:
                self._write_record()
                known = pids
            if not greeted and await asyncio.to_thread(_is_ready, self.url):
                greeted = True
                self._greet()
            await asyncio.sleep(0.1 if not greeted else 0.5)

    def _greet(self) -> None:
        _, *runs = self._urls()
        sys.stdout.write(
            f"\nOPMAS {__version__} is up\n"
            f"  API       {self.url}/api/v1/agents   (token: `opmas token`)\n"
            f"{f'  runs      {runs[0]}/agents/AGENT/runs{chr(10)}' if runs else ''}"
            f"  NATS      {self._nats.url if self._nats else self._manager_settings.nats.url}\n"
            f"  packages  {self._manager_settings.packages}\n"
            f"  data      {self._home}\n"
            "  try       opmas ls · opmas run AGENT hello · opmas describe AGENT · opmas logs -f\n"
            "  stop      Ctrl-C, or `opmas down`\n\n"
        )
        sys.stdout.flush()


def _is_ready(url: str) -> bool:
    import ssl  # noqa: PLC0415  # both are used until the first answer only
    import urllib.request  # noqa: PLC0415

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate names the host, not 127.0.0.1
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2, context=context):  # noqa: S310  # our own address
            return True
    except OSError:
        return False
