"""PM2 from npm."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from benchmarks import shell
from benchmarks.sides.peer import INSTALLED, PROGRAM, WORKLOAD, Peer

_FOLDER = INSTALLED / "pm2"
_PM2 = _FOLDER / "node_modules" / ".bin" / "pm2"


class Pm2(Peer):
    """Defaults; an ecosystem file with all agents, started by one command."""

    name: ClassVar[str] = "pm2"
    version_command = (_PM2, "--version")
    list_command = (_PM2, "ls")

    @classmethod
    async def install(cls) -> None:
        """Fetch it from npm."""
        if not _PM2.exists():
            _FOLDER.mkdir(parents=True, exist_ok=True)
            await shell.run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", _FOLDER, "pm2")
        manifest = _FOLDER / "node_modules" / "pm2" / "package.json"
        cls.version = json.loads(manifest.read_text())["version"]

    @asynccontextmanager
    async def supervise(self) -> AsyncIterator[None]:
        """Let it make its daemon with the first command, and kill that at the end."""
        self.env |= {"PM2_HOME": str(self.folder / "pm2"), "PM2_DISABLE_VERSION_CHECK": "true"}
        self.ecosystem = self._write_ecosystem()
        await shell.run(_PM2, "ping", env=self.env)
        try:
            yield
        finally:
            await shell.run(_PM2, "kill", env=self.env, timeout_s=120)

    async def start(self) -> None:
        """`pm2 start ecosystem.config.json`."""
        await shell.run(_PM2, "start", self.ecosystem, env=self.env)

    def _write_ecosystem(self) -> Path:
        apps = [
            {"name": each, "script": str(PROGRAM), "args": each, "interpreter": sys.executable, "cwd": str(WORKLOAD)}
            for each in self.ids
        ]
        file = self.folder / "ecosystem.config.json"
        file.write_text(json.dumps({"apps": apps}))
        return file


SIDE = Pm2
