"""The management API as a process of its own, on a port that the kernel chose."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STARTS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running API: where it is, what opens it, and what it logged."""

    url: str
    token: str
    home: Path
    log: Path
    process: "subprocess.Popen[bytes]"
    agentos_url: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment without any setting of the machine's own."""
    names = ("OPMAS_", "NATS_", "DATABASE_URL", "REDIS_URL", "JWT_SECRET", "AGENTOS_", "NO_COLOR", "FORCE_COLOR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return clean | {"OPMAS_HOME": str(home), **more}


@contextmanager
def running(home: Path, nats_url: str, **settings: str) -> Iterator[Server]:
    """Start the API and stop it with SIGTERM."""
    log = home / "api.log"
    home.mkdir(exist_ok=True)
    ports = {"OPMAS_API__PORT": "0", "OPMAS_API__AGENTOS_PORT": "0"}
    env = environment(home, **ports, OPMAS_API__SHUTDOWN_TIMEOUT="1", OPMAS_NATS__URL=nats_url)
    env |= settings
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "management_api"], env=env, stderr=stderr)
    try:
        told = _listening(log, process)
        token = (home / "admin.token").read_text().strip()
        yield Server(told["url"], token, home, log, process, told.get("agentos_url", ""))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


def _listening(log: Path, process: "subprocess.Popen[bytes]") -> dict[str, str]:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.endswith("}") and (told := json.loads(line))["event"] == "listening":
                return dict(told)
        time.sleep(0.02)
    raise AssertionError(f"the API did not start: {log.read_text()}")
