"""The processes `opmas up` keeps alive: a manager and an API, restarted when they die, ended in order."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

# A server that dies at once again and again is restarted after 0.2, 0.4 … 5 s.
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 5.0
_STEADY_AFTER_S = 10.0


class Server:
    """One child process, run by `keep` until `stop`."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.pid = 0
        self.failures = 0
        self.exit_code: int | None = None
        self._module = module
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()

    async def keep(self) -> None:
        """Start the process and start it again whenever it dies; returns after `stop`."""
        while not self._stopping.is_set():
            started = time.monotonic()
            await self._run_once()
            if self._stopping.is_set():
                return
            self.failures = 0 if time.monotonic() - started > _STEADY_AFTER_S else self.failures + 1
            delay = min(_FIRST_DELAY_S * 2 ** max(self.failures - 1, 0), _LONGEST_DELAY_S)
            log.warning("server_died", server=self.name, exit_code=self.exit_code, restart_in_s=delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _run_once(self) -> None:
        # In a session of its own: Ctrl-C reaches only `up`, which ends the servers in order.
        self._process = subprocess.Popen(  # noqa: ASYNC220  # must fork in this very thread: see tether.py
            [sys.executable, "-m", "opmas.cli.tether", str(os.getpid()), self._module],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._gone.clear()
        fd = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(fd, self._gone.set)
        try:
            await self._gone.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
            if self._gone.is_set():
                self.exit_code = self._process.wait()
                self.pid = 0

    async def stop(self, grace_s: float) -> None:
        """Ask the process to end and wait; after `grace_s` seconds, kill it."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                while self.pid:
                    await self._gone.wait()
                    await asyncio.sleep(0)
        except TimeoutError:
            log.warning("server_killed", server=self.name, grace_s=grace_s)
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process."""
        if self._process is not None and self.pid:
            self._process.send_signal(number)
