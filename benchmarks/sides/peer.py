"""What supervisors that exec an interpreter per agent share: a plain nats-server, and the program they start."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from benchmarks import shell
from benchmarks.beats import Beats

WORKLOAD = Path(__file__).parents[1] / "workload"
PROGRAM = WORKLOAD / "program.py"
INSTALLED = Path(__file__).parents[2] / ".benchmarks" / "peers"  # kept between runs, not in git


class Peer:
    """A supervisor beside a nats-server of its own; subclasses say how it is installed, configured and commanded."""

    name: ClassVar[str]
    version: ClassVar[str]
    version_command: Sequence[str | Path]
    list_command: Sequence[str | Path]

    def __init__(self, folder: Path, ids: Sequence[str], url: str, beats: Beats) -> None:
        self.folder = folder
        self.ids = ids
        self.beats = beats
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "NATS_URL": url, "AGNO_TELEMETRY": "false"}

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, ids: Sequence[str]) -> AsyncIterator[Self]:
        """Run nats-server and the supervisor; at the end kill whatever agent is left."""
        await cls.install()
        server = Path(sys.executable).with_name("nats-server")
        argv = (server, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder)
        async with shell.beside(*argv, log=folder / "nats.log") as process:
            ports = folder / f"nats-server_{process.pid}.ports"
            await shell.until_there(ports)
            url = json.loads(ports.read_text())["nats"][0]
            async with Beats(url) as beats:
                side = cls(folder, ids, url, beats)
                try:
                    async with side.supervise():
                        yield side
                finally:
                    for pid in beats.pids.values():
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)

    @classmethod
    async def install(cls) -> None:
        """Fetch the supervisor, once."""
        raise NotImplementedError

    def supervise(self) -> Any:
        """Run the supervisor, no agent started: an async context manager."""
        raise NotImplementedError

    async def start(self) -> None:
        """Give the command that starts all agents."""
        raise NotImplementedError

    def agent_processes(self) -> list[int]:
        """List the agents: each is one process."""
        return list(self.beats.pids.values())


async def install_from_pypi(package: str) -> Path:
    """Install `package` into a virtual environment of its own; return its folder of programs."""
    venv = INSTALLED / package
    programs = venv / "bin"
    if not (programs / "installed").exists():
        base = Path(sys.base_prefix) / "bin" / "python3"
        await shell.run(base, "-m", "venv", "--without-pip", venv)
        await shell.run(base, "-m", "pip", "--python", programs / "python", "install", "--quiet", package)
        await asyncio.to_thread((programs / "installed").touch)
    return programs


async def version_of(programs: Path, package: str) -> str:
    """Tell the version that was installed."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return (await shell.run(programs / "python", "-c", code)).strip()
