"""The daemon's entry: lock the data directory, read the settings, obey signals, run the manager."""

import asyncio
import fcntl
import os
import resource
import signal
import sys
from pathlib import Path

import structlog

from agent_manager.connection import credential_source
from agent_manager.manager import AgentManager
from agent_manager.nats import EmbeddedServer
from agent_manager.settings import CONFIG_FILE, ManagerSettings
from opmas.logs import configure
from opmas.wire.errors import Conflict, OpmasError
from opmas.wire.messages import now

log = structlog.get_logger(__name__)


_LOOK_S = 0.2


def main() -> int:
    """Run the daemon; 0 after a stop, 1 when it failed, 6 when another manager holds the data directory."""
    if not hasattr(os, "pidfd_open"):
        sys.stderr.write(
            "cannot run a manager here: it watches processes by pidfd, which only Linux 5.3 and newer has\n"
        )
        return 1
    try:
        settings = ManagerSettings.load(CONFIG_FILE)
        configure(settings.service.log_level)
        _raise_file_limit()
        lock = _lock(settings.home)
        try:
            asyncio.run(_run(settings))
        finally:
            os.close(lock)
    except Conflict as error:
        print(f"{error.message}\n  {error.hint}", file=sys.stderr)  # noqa: T201  # before there is anything to log to
        return 6
    except OpmasError as error:
        print(f"{error.message}\n  {error.hint}", file=sys.stderr)  # noqa: T201  # as above
        return 1
    return 0


async def _run(settings: ManagerSettings) -> None:
    embedded = EmbeddedServer(settings.home)
    url = ""
    if not settings.nats.url:
        await _embedded_ready(embedded, settings.home)
        url = embedded.url
    manager = AgentManager(settings, credential_source(settings, url))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, manager.stop)
    loop.add_signal_handler(signal.SIGUSR1, manager.leave)  # what deploy/opmas.service sends when it restarts
    loop.add_signal_handler(signal.SIGHUP, manager.reread)
    await manager.run()


async def _embedded_ready(embedded: EmbeddedServer, home: Path) -> None:
    warned = False
    while not await embedded.adopt():
        if not warned:
            log.warning("waiting_for_nats", home=str(home), hint="`opmas up` starts it; or set nats.url")
            warned = True
        await asyncio.sleep(_LOOK_S)


def _lock(home: Path) -> int:
    """Hold the data directory; a second manager on it would start everything twice."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(home / "manager.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 200).decode(errors="replace") or "another manager"
        os.close(fd)
        raise Conflict(
            f"cannot start a manager in {home}: it is held by {holder}",
            "stop that one, or set OPMAS_HOME to another folder",
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"manager pid {os.getpid()}, started {now():%Y-%m-%d %H:%M:%S} UTC".encode())
    return fd


def _raise_file_limit() -> None:
    # A pidfd for each instance, and sockets: the usual 1024 is too few for a thousand agents.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
