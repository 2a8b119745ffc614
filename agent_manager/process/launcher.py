"""The manager's end of a template: starts it, and asks it for instances.

A spec travels over a socket of its own straight to the new shim: the template never reads one, so that no instance is
forked from memory that has seen another's secrets. The same socket brings the shim's answer.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import Any, Self

from agent_manager.process.errors import PreloadRefused, SlotBusy, SpawnFailed
from agent_manager.process.record import SlotState
from agent_manager.process.slot import Shim, Slot
from agent_manager.process.spec import InstanceSpec

# What /proc/PID/environ shows of each fork: nothing here may hold a secret, as the address of a proxy may.
TEMPLATE_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
START_DEADLINE_S = 60.0  # imports of a model provider take 7 s on a busy machine
SPAWN_DEADLINE_S = 30.0
CLOSE_DEADLINE_S = 5.0
SPAWNS_AT_ONCE = 64  # bounds our file descriptors; the template forks one after the other anyway


class Template:
    """One warm interpreter, from which instances are forked. It may die at any moment: instances do not notice."""

    def __init__(self, process: "subprocess.Popen[bytes]", sock: socket.socket) -> None:
        self.pid = process.pid
        self.closed = asyncio.Event()
        self._process = process
        self._socket = sock
        self._room = asyncio.Semaphore(SPAWNS_AT_ONCE)
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._on_end)

    @classmethod
    async def start(
        cls,
        preload: tuple[str, ...] = (),
        log_path: str | os.PathLike[str] = os.devnull,
        python: str = sys.executable,
    ) -> Self:
        """Start an interpreter that has imported `preload` (modules, or "module:callable" to be called once).

        What it prints goes to `log_path`; `python` is one that finds our packages. Raises PreloadRefused, or
        SpawnFailed when it cannot be started at all.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _start_interpreter(python, theirs.fileno(), preload, log_path)
            except OSError as error:
                ours.close()
                raise SpawnFailed(f"cannot start a template: {error}") from error
        ours.setblocking(False)
        template = cls(process, ours)
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                _check_ready(await _read_line(ours), log_path)
        except TimeoutError:
            await template.close()
            raise SpawnFailed(f"cannot start a template: preloading took longer than {START_DEADLINE_S:g} s") from None
        except BaseException:
            await template.close()
            raise
        return template

    async def spawn(self, spec: InstanceSpec) -> Shim:
        """Start one instance; returns when its state is on disk. Cancelled, it may have started one all the same.

        A program that cannot be executed shows in the exit record. Raises SlotBusy when the slot is held, SpawnFailed
        for all else.
        """
        try:
            async with self._room, asyncio.timeout(SPAWN_DEADLINE_S):
                answer = await self._ask(spec)
        except TimeoutError:
            raise SpawnFailed(f"cannot start {spec.instance_id}: no answer within {SPAWN_DEADLINE_S:g} s") from None
        if "busy" in answer:
            raise SlotBusy(spec.instance_id, await asyncio.to_thread(Slot(spec.slot_dir).lock_holders))
        if "error" in answer:
            raise SpawnFailed(f"cannot start {spec.instance_id}: {answer['error']}")
        if not answer:
            raise SpawnFailed(f"cannot start {spec.instance_id}: the template or the shim died")
        return Shim(Slot(spec.slot_dir), SlotState(**answer))

    async def close(self) -> None:
        """End the template, not its instances."""
        self._socket.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await self.closed.wait()
        if not self.closed.is_set():
            self._process.kill()
            await self.closed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, spec: InstanceSpec) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            try:
                with theirs:
                    socket.send_fds(self._socket, [b"+"], [theirs.fileno()])
                await self._loop.sock_sendall(ours, spec.to_json().encode())
                ours.shutdown(socket.SHUT_WR)
                return await _read_line(ours)
            except OSError as error:
                raise SpawnFailed(f"cannot start {spec.instance_id}: the template is gone ({error})") from error

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()  # it has ended: this only reaps
        self._socket.close()
        self.closed.set()


def _start_interpreter(
    python: str, fd: int, preload: tuple[str, ...], log_path: str | os.PathLike[str]
) -> "subprocess.Popen[bytes]":
    environment = {name: os.environ[name] for name in TEMPLATE_ENVIRONMENT if name in os.environ}
    with open(log_path, "ab") as log:
        return subprocess.Popen(
            # -P: the working directory is no place to import from.
            [python, "-P", "-m", "agent_manager.process.template", str(fd), *preload],
            env=environment | {"AGNO_TELEMETRY": "false"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[fd],
            start_new_session=True,
        )


def _check_ready(answer: dict[str, Any], log_path: str | os.PathLike[str]) -> None:
    if "refused" in answer:
        raise PreloadRefused(answer["refused"], answer["reason"])
    if not answer:
        raise SpawnFailed(f"cannot start a template: it ended at once; see {os.fspath(log_path)}")


async def _read_line(sock: socket.socket) -> dict[str, Any]:
    """Read one JSON object that ends with a newline; empty when the other side is gone."""
    loop = asyncio.get_running_loop()
    data = b""
    while not data.endswith(b"\n"):
        try:
            chunk = await loop.sock_recv(sock, 65536)
        except ConnectionError:
            chunk = b""
        if not chunk:
            return {}
        data += chunk
    answer: dict[str, Any] = json.loads(data)
    return answer
