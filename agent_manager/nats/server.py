"""The embedded nats-server: start it, or take over the one that lives; see it die; stop it.

Whoever holds the lock on `home/nats/lock` is the server: the file descriptor is inherited by nats-server and by nobody
else, so the lock says that it lives even when its starter died in mid-start, and a second starter cannot get past it.
Its pid and ports are what nats-server itself wrote down; a pid is used through a pidfd opened while the lock was seen
held. It runs in a session of its own and outlives its starter; restarting it when it dies is its owner's business
(`wait_death`, then `start`).
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from agent_manager.nats import keys
from agent_manager.nats.account import JetStreamLimits
from agent_manager.nats.config import binary, write_config
from agent_manager.ports import require_free
from opmas.wire.errors import OpmasError

PORT_SETTING = "OPMAS_NATS__PORT"
_READY_S = 30.0  # a large JetStream store is read before the first client is let in
_POLL_S = 0.02
_HEALTH_S = 5.0


class NatsServerFailed(OpmasError):
    """The embedded nats-server did not start; the message carries its last log lines."""

    code = "nats_server_failed"


class EmbeddedServer:
    """The nats-server whose files lie under `home/nats`, wanted on 127.0.0.1:`port` (0: any free one, kept on restart).

    After `start` or a successful `adopt`: `url`, `monitor_url` (http, loopback) and `pid`.
    """

    url: str
    monitor_url: str
    pid: int

    def __init__(self, home: Path, *, port: int = 4222, limits: JetStreamLimits | None = None) -> None:
        self._home = home.absolute()
        self._folder = self._home / "nats"
        self._port = port
        self._limits = limits or JetStreamLimits()
        self._pidfd: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Adopt the living server, else start one; returns when clients can connect.

        Raises Conflict when the port is taken (naming its holder), NatsServerFailed when the server does not come up.
        """
        while not await self.adopt():
            if await asyncio.to_thread(self._launch):
                await self._until_ready()

    async def adopt(self) -> bool:
        """Take over the server that lives in this home, whatever its port; False when there is none."""
        if not self._folder.is_dir() or not self._is_locked():
            return False
        return await self._until_ready()

    async def wait_death(self) -> None:
        """Return when the server is no more; at once when there was none."""
        if self._pidfd is None:
            return
        await _readable(os.dup(self._pidfd))
        self._forget()

    async def ailment(self) -> str:
        """Ask the living server how it is; empty when it is well. Raises OSError when it does not answer.

        A stream that met a full disk stays ill until a restart.
        """
        return await asyncio.to_thread(_ailment, f"{self.monitor_url}/healthz")

    async def stop(self, grace_s: float = 10.0) -> None:
        """End the living server, this process's or an adopted one: SIGTERM, after `grace_s` SIGKILL."""
        if self._pidfd is None and not await self.adopt():
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait_death()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            async with asyncio.timeout(_READY_S):
                await self.wait_death()

    def _is_locked(self) -> bool:
        lock = self._lock()
        if lock is not None:
            os.close(lock)
        return lock is None

    def _lock(self) -> int | None:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _launch(self) -> bool:
        """Start a server; False when somebody else holds the lock by now."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock()
        if lock is None:
            return False
        try:
            require_free("127.0.0.1", self._port, PORT_SETTING)
            for stale in (self._pid_file, *self._folder.glob("*.ports")):
                stale.unlink(missing_ok=True)
            config = write_config(self._folder, keys.load_or_create(self._home), self._port, self._limits)
            with open(self._folder / "nats-server.out", "wb") as out:
                self._child = subprocess.Popen(
                    [binary(), "-c", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={},
                    cwd=self._folder,
                    umask=0o077,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        return True

    async def _until_ready(self) -> bool:
        """Wait until the lock's holder lets clients in; False when it died first and was none of ours."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while not self._take():
                    if self._child is not None and (code := self._child.poll()) is not None:
                        self._child = None
                        raise self._failure(f"it ended with code {code}")
                    if not self._is_locked():
                        return False
                    await asyncio.sleep(_POLL_S)
                return True
        raise self._failure(f"it was not ready after {_READY_S:.0f} s")

    def _take(self) -> bool:
        """Note pid and ports of the lock's holder, if it has written them down yet."""
        try:
            pid = int(self._pid_file.read_text())
            ports = json.loads(next(self._folder.glob(f"*_{pid}.ports")).read_text())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError, StopIteration):
            return False
        if not self._is_locked():
            os.close(pidfd)
            return False
        self._close_pidfd()
        self._pidfd, self.pid = pidfd, pid
        self.url, self.monitor_url = ports["nats"][0], ports["monitoring"][0]
        self._port = int(self.url.rpartition(":")[2])  # a restart must be found by every client
        return True

    @property
    def _pid_file(self) -> Path:
        return self._folder / "nats-server.pid"

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _forget(self) -> None:
        self._close_pidfd()
        if self._child is not None:
            self._child.wait()  # it is dead: this reaps it
            self._child = None

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _failure(self, what: str) -> NatsServerFailed:
        lines: list[str] = []
        for name in ("nats-server.out", "nats-server.log"):
            with contextlib.suppress(OSError):
                lines += (self._folder / name).read_text(errors="replace").splitlines()[-5:]
        return NatsServerFailed(
            "\n".join([f"cannot start nats-server: {what}", *lines]), f"its log is {self._folder / 'nats-server.log'}"
        )


def _ailment(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_S):  # noqa: S310  # our own server, on loopback
            return ""
    except urllib.error.HTTPError as answer:
        said: dict[str, str] = json.loads(answer.read())
        return said.get("error") or said.get("status") or str(answer.code)


async def _readable(fd: int) -> None:
    """Wait until `fd` (which this closes) can be read: for a pidfd, until its process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
