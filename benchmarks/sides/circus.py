"""circus from PyPI."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar

from benchmarks import shell
from benchmarks.sides.peer import INSTALLED, PROGRAM, WORKLOAD, Peer, install_from_pypi, version_of

_BIN = INSTALLED / "circus" / "bin"

_CONFIG = """
[circus]
endpoint = ipc://{folder}/ctl
pubsub_endpoint = ipc://{folder}/pub
"""
_WATCHER = """
[watcher:{id}]
cmd = {python} {program} {id}
working_dir = {workload}
copy_env = true
"""


class Circus(Peer):
    """Defaults. Its `start` command leaves out what is not started with it, so starting all is starting it."""

    name: ClassVar[str] = "circus"

    @classmethod
    async def install(cls) -> None:
        """Fetch it from PyPI."""
        cls.version = await version_of(await install_from_pypi("circus"), "circus")

    @asynccontextmanager
    async def supervise(self) -> AsyncIterator[None]:
        """Write its configuration; end it at the end."""
        places = {"python": sys.executable, "program": PROGRAM, "workload": WORKLOAD, "folder": self.folder}
        self.config = self.folder / "circus.ini"
        self.config.write_text(
            _CONFIG.format(**places) + "".join(_WATCHER.format(id=each, **places) for each in self.ids)
        )
        self.version_command = (_BIN / "circusctl", "--version")
        self.list_command = (_BIN / "circusctl", "--endpoint", f"ipc://{self.folder}/ctl", "status")
        async with AsyncExitStack() as self.daemon:
            yield

    async def start(self) -> None:
        """Run `circusd` in the foreground; it starts all."""
        running = shell.beside(_BIN / "circusd", self.config, env=self.env, log=self.folder / "out", grace_s=60)
        await self.daemon.enter_async_context(running)


SIDE = Circus
