"""OPMAS itself: `opmas up` in a folder of its own, agents in packages with `autostart: false`."""

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from benchmarks import figures, shell
from benchmarks.beats import Beats
from benchmarks.sides.peer import WORKLOAD
from opmas import __version__

_OPMAS = Path(sys.executable).with_name("opmas")

AGNO = """name: {id}
runtime: agno
entrypoint: agent.py:agent
autostart: false
"""


class Opmas:
    """A node with its agents known and none started."""

    name: ClassVar[str] = "opmas"
    version: ClassVar[str] = __version__

    version_command = (_OPMAS, "--version")
    list_command = (_OPMAS, "ls")

    def __init__(self, ids: Sequence[str], env: dict[str, str], pids: dict[str, int], beats: Beats) -> None:
        self.ids = ids
        self.env = env
        self.home = Path(env["OPMAS_HOME"])
        self.pids = pids
        self.beats = beats

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        ids: Sequence[str],
        manifest: Callable[..., str] = AGNO.format,
        agent: Path = WORKLOAD / "agent.py",
    ) -> AsyncIterator[Self]:
        """Run a node whose packages are `ids`, each made from `manifest` and `agent`."""
        for each in ids:
            package = folder / "packages" / each
            package.mkdir(parents=True)
            (package / "agent.yaml").write_text(manifest(id=each))
            shutil.copy(agent, package / "agent.py")
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "OPMAS_HOME": str(folder / "home"),
            "OPMAS_PACKAGES": str(folder / "packages"),
            "OPMAS_API__PORT": str(shell.free_port()),
            "OPMAS_API__AGENTOS_PORT": str(shell.free_port()),
            "OPMAS_NATS__PORT": str(shell.free_port()),
            "OPMAS_MANAGER__LOG_LEVEL": "warning",
        }
        async with shell.beside(_OPMAS, "up", env=env, log=folder / "up.log", grace_s=120):
            await shell.until_there(folder / "home" / "up.json", timeout_s=60)
            await cls._until_known(env, len(ids))
            up: dict[str, Any] = json.loads((folder / "home" / "up.json").read_text())
            creds = str(folder / "home" / "nats" / "cli.creds")
            async with Beats(up["nats_url"], creds) as beats:
                yield cls(ids, env, up["pids"], beats)

    @classmethod
    async def _until_known(cls, env: dict[str, str], count: int) -> None:
        for _ in range(100):
            try:
                if json.loads(await shell.run(_OPMAS, "ls", "--json", env=env))["total"] == count:
                    return
            except RuntimeError:  # not up yet
                continue
        raise TimeoutError(f"opmas does not list {count} agents")

    async def start(self) -> None:
        """`opmas start --all`, which waits until all run."""
        await shell.run(_OPMAS, "start", "--all", "--wait", "120", env=self.env)

    def agent_processes(self) -> list[int]:
        """List template, shims and instances: all that is below the manager."""
        return figures.descendants(self.pids["manager"])


SIDE = Opmas
