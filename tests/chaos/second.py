"""A second API of a node, started again whenever it is looked for and has died."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Self

from tests.node import Document, Node, free_port


class SecondApi:
    """Beside the one that `opmas up` keeps, with the same home, database and NATS, on a port of its own."""

    def __init__(self, node: Node) -> None:
        self.port = free_port()
        up: Document = json.loads((node.home / "up.json").read_text())
        self._environment = node.environment | {
            "OPMAS_API__PORT": str(self.port),
            "OPMAS_API__AGENTOS_PORT": str(free_port()),
            "OPMAS_NATS__URL": up["nats_url"],
            "OPMAS_NATS__CREDS": str(node.home / "nats" / "api.creds"),
        }
        self._log = node.log.with_name("second.log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.pid()
        return self

    def pid(self) -> int:
        """Return its pid; start it if it does not live."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "management_api"], env=self._environment, stdout=log, stderr=log
                )
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
