"""supervisord from PyPI."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from benchmarks import shell
from benchmarks.sides.peer import INSTALLED, PROGRAM, WORKLOAD, Peer, install_from_pypi, version_of

_BIN = INSTALLED / "supervisor" / "bin"

_CONFIG = """
[unix_http_server]
file={folder}/sock
[supervisord]
nodaemon=true
logfile={folder}/log
pidfile={folder}/pid
childlogdir={folder}
minfds=8192
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/sock
"""
_PROGRAM = """
[program:{id}]
command={python} {program} {id}
directory={workload}
autostart=false
autorestart=true
"""


class Supervisord(Peer):
    """Defaults but for autostart, so that one command starts all."""

    name: ClassVar[str] = "supervisord"

    @classmethod
    async def install(cls) -> None:
        """Fetch it from PyPI."""
        cls.version = await version_of(await install_from_pypi("supervisor"), "supervisor")

    @asynccontextmanager
    async def supervise(self) -> AsyncIterator[None]:
        """Run it in the foreground."""
        places = {"python": sys.executable, "program": PROGRAM, "workload": WORKLOAD, "folder": self.folder}
        text = _CONFIG.format(**places) + "".join(_PROGRAM.format(id=each, **places) for each in self.ids)
        self.config = self.folder / "supervisord.conf"
        self.config.write_text(text)
        self.version_command = (_BIN / "supervisorctl", "-c", self.config, "version")
        self.list_command = (_BIN / "supervisorctl", "-c", self.config, "status")
        argv = (_BIN / "supervisord", "-c", self.config)
        async with shell.beside(*argv, env=self.env, log=self.folder / "out", grace_s=60):
            await shell.until_there(self.folder / "sock")
            yield

    async def start(self) -> None:
        """`supervisorctl start all`."""
        await shell.run(_BIN / "supervisorctl", "-c", self.config, "start", "all")


SIDE = Supervisord
