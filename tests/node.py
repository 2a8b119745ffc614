"""A node for tests, as a user runs it: `opmas up` in a folder of its own, on free ports; and a lone manager.

Everything here blocks and has a deadline. An async test calls it in a thread, or before and after its awaits. What a
node leaves behind, `close` finds by its home and kills; `processes` is the same search as an assertion.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from nats.aio.client import Client

from opmas.bus.client import SafeClient

ROOT = Path(__file__).parents[1]
OPMAS = Path(sys.executable).with_name("opmas")
# Nothing is timed here: this only ends a test that waits for what will never be, on a machine however busy.
PATIENCE_S = 60.0
_LOOK_S = 0.02

Document = dict[str, Any]
T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S) -> T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s:g} s: {what or condition}")
        time.sleep(_LOOK_S)
    return found


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, packages: Path, **more: str) -> dict[str, str]:
    """Return an environment without any setting of the machine's own."""
    names = ("OPMAS_", "NATS_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    path = os.pathsep.join([str(OPMAS.parent), clean.get("PATH", os.defpath)])
    return clean | {"PATH": path, "OPMAS_HOME": str(home), "OPMAS_PACKAGES": str(packages), **more}


def write_package(packages: Path, name: str, code: str = "", **fields: Any) -> Path:
    """Write a package whose agent is `agent.py:Worker`, unless `fields` of agent.yaml say otherwise."""
    draft, folder = packages / f".{name}", packages / name
    draft.mkdir(parents=True)
    manifest = {"name": name} | ({} if "command" in fields else {"entrypoint": "agent.py:Worker"}) | fields
    (draft / "agent.yaml").write_text(json.dumps(manifest, indent=1))  # JSON is YAML
    if code:
        (draft / "agent.py").write_text(textwrap.dedent(code))
    draft.rename(folder)  # whole at once: a running manager would start a half-written one
    return folder


def exists(pid: int) -> bool:
    """Say whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_of(home: Path) -> dict[int, str]:
    """Find every living process that names `home` in its words or environment or holds a file below it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs(entry, str(home)):
            with contextlib.suppress(OSError):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return {pid: words for pid, words in found.items() if exists(pid)}


def _belongs(process: Path, home: str) -> bool:
    with contextlib.suppress(OSError):
        if any(home.encode() in (process / name).read_bytes() for name in ("cmdline", "environ")):
            return True
        return any(os.readlink(fd).startswith(home) for fd in (process / "fd").iterdir())
    return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that must be there."""
    os.kill(pid, number)


class Node:
    """One home, one folder of packages, and at most one `opmas up`."""

    def __init__(self, root: Path, packages: Path | None = None, **settings: str) -> None:
        self.home = root / "home"
        self.packages = packages or root / "packages"
        self.log = root / "up.log"
        self.packages.mkdir(parents=True, exist_ok=True)
        ports = {
            "OPMAS_API__PORT": str(free_port()),
            "OPMAS_API__AGENTOS_PORT": str(free_port()),
            "OPMAS_NATS__PORT": "0",
        }
        self.environment = environment(self.home, self.packages, **(ports | settings))
        self.process: subprocess.Popen[bytes] | None = None

    # --- its life ---------------------------------------------------------------------------------------------------

    def up(self, *, ready: bool = True) -> Self:
        """Run `opmas up`; with `ready`, return when the API, the manager and its packages are there."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [OPMAS, "up"],
                env=self.environment,
                cwd=self.home.parent,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if ready:
            until(self._answers, f"`opmas up` to be ready:\n{self.log_tail()}")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"`opmas up` ended with {self.process.returncode}:\n{self.log_tail()}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.api("GET", "/readyz")[0] == 200
        return False

    def down(self) -> "subprocess.CompletedProcess[str]":
        """Run `opmas down` and reap `up`."""
        ended = self.cli("down")
        self.reap()
        return ended

    def kill_up(self) -> None:
        """Kill `opmas up` with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.reap()

    def reap(self) -> int:
        """Wait until `opmas up` has ended; returns its exit code."""
        if self.process is None:
            return 0
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def processes(self) -> dict[int, str]:
        """Every living process of this node, `up` included."""
        return processes_of(self.home)

    def close(self) -> None:
        """Kill whatever is left."""
        for _ in range(100):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None and self.process.poll() is not None:
                self.process = None
            if self.process is None and not self.processes():
                return
            time.sleep(_LOOK_S)
        raise AssertionError(f"cannot end {self.processes()}")

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines `opmas up` and its servers wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def pid(self, name: str) -> int:
        """Return the pid of `up`, `nats-server`, `manager` or `api`; wait for it to be a living one."""

        def living() -> int:
            with contextlib.suppress(OSError, ValueError):
                pid = int(json.loads((self.home / "up.json").read_text())["pids"].get(name) or 0)
                return pid if pid and exists(pid) else 0
            return 0

        return until(living, f"a {name}")

    # --- talking to it ----------------------------------------------------------------------------------------------

    def cli(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `opmas WORDS` with `more` environment; never raises for its exit code."""
        return subprocess.run(
            [OPMAS, *words],
            env=self.environment | more,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )

    @property
    def token(self) -> str:
        return (self.home / "admin.token").read_text().strip()

    def api(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Document]:
        """Call the management API; raises OSError when it is away."""
        port = int(self.environment["OPMAS_API__PORT"])
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        data = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def agent(self, agent_id: str) -> Document:
        """Return the agent's view; wait for an API that can give one."""

        def view() -> Document:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, found = self.api("GET", f"/api/v1/agents/{agent_id}")
                return found if status == 200 else {}
            return {}

        return until(view, f"a view of {agent_id}")

    def instances(self, agent_id: str) -> list[Document]:
        """Return the views of the agent's instances."""
        found: list[Document] = self.agent(agent_id)["instances"]
        return found

    def running(self, *agents: str, replicas: int | None = None) -> dict[str, int]:
        """Wait until the agents run; return the pids of their instances."""
        pids: dict[str, int] = {}
        for agent_id in agents:
            until(partial(self._is_running, agent_id, replicas), f"{agent_id} to run")
            pids |= {i["id"]: i["pid"] for i in self.instances(agent_id) if i["pid"] is not None}
        return pids

    def _is_running(self, agent_id: str, replicas: int | None) -> bool:
        view = self.agent(agent_id)
        instances = [i for i in view["instances"] if i["status"] == "running" and i["pid"]]
        return view["status"] == "running" and len(instances) == (replicas or view["replicas"])

    def lines(self, agent_id: str, tail: int = 1000) -> list[str]:
        """Return what the agent wrote last."""
        return [line["line"] for line in self.api("GET", f"/api/v1/agents/{agent_id}/logs?tail={tail}")[1]["lines"]]

    async def nats(self, creds: Path | None = None, inbox: str = "", **options: Any) -> Client:
        """Connect to the node's NATS, as the operator's command line unless `creds` says otherwise."""
        client = SafeClient()
        url = json.loads((self.home / "up.json").read_text())["nats_url"]
        creds = creds or self.home / "nats" / "cli.creds"
        await client.connect(url, user_credentials=str(creds), inbox_prefix=inbox or "_INBOX", **options)
        return client


@contextmanager
def node(root: Path, packages: Path | None = None, **settings: str) -> Iterator[Node]:
    """Run a node, and leave nothing of it."""
    one = Node(root, packages, **settings)
    try:
        yield one.up()
    finally:
        one.close()


class ManagerProcess:
    """One `python -m agent_manager` on a NATS server that is there, without `up` and without an API."""

    def __init__(self, root: Path, nats_url: str, packages: Path | None = None, **settings: str) -> None:
        self.home = root / "home"
        self.packages = packages or root / "packages"
        self.log = root / "manager.log"
        self.packages.mkdir(parents=True, exist_ok=True)
        self.environment = environment(self.home, self.packages, OPMAS_NATS__URL=nats_url, **settings)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, listening: bool = True) -> Self:
        """Start it; with `listening`, return when it has adopted what lives and answers on NATS."""
        self.home.mkdir(parents=True, exist_ok=True)
        seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent_manager"],
                env=self.environment,
                cwd=self.home.parent,  # where it looks for config/
                stdout=log,
                stderr=log,
            )
        if listening:
            until(lambda: self._said(seen, '"listening"') and self._said(seen, '"ready"'), "the manager to be ready")
        return self

    def _said(self, since: int, word: str) -> bool:
        assert self.process is not None
        text = self.log.read_text(errors="replace")[since:]
        assert self.process.poll() is None, f"the manager ended with {self.process.returncode}:\n{text}"
        return word in text

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """Stop it as `opmas up` does; returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it with SIGKILL: its agents live on."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def close(self) -> None:
        """Kill it and whatever lives of its agents."""
        if self.process is not None:
            self.kill()
        until(lambda: not _killed(self.home), f"the end of {processes_of(self.home)}")


def _killed(home: Path) -> dict[int, str]:
    left = processes_of(home)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left
