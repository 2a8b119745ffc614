"""Run the API: `python -m management_api`, or `opmas api run`."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn

from management_api.app import create_app
from management_api.settings import CONFIG_FILE, ApiSettings, without_effect
from management_api.token import ensure_token
from opmas.logs import configure
from opmas.wire.errors import Conflict, OpmasError

logger = structlog.get_logger("management_api")


class _Server(uvicorn.Server):
    """Ends at the first SIGTERM or SIGINT in order, at the second at once, and with exit code 0 either way."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again when all is closed, which would make an ordered end look like a kill.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: object) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(settings: ApiSettings) -> socket.socket:
    """Bind the port; raises `Conflict`, naming the setting, when it cannot be had."""
    host, port = settings.service.host, settings.service.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off, which would hold each answer back for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # from here on callers are kept waiting, not refused; uvicorn's own default
    except OSError as error:
        listener.close()
        why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise Conflict(f"cannot listen on {host}:{port}: {why}", "set OPMAS_API__PORT or OPMAS_API__HOST") from error
    return listener


async def serve(settings: ApiSettings, token: str, listener: socket.socket) -> None:
    """Serve until a signal ends it."""
    config = uvicorn.Config(
        create_app(settings, token),
        log_config=None,
        access_log=False,  # the gate writes one line a request, with its correlation id
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=round(settings.service.shutdown_timeout) or 1,
    )
    host, port = listener.getsockname()[:2]
    logger.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", home=str(settings.home))
    await _Server(config).serve([listener])


def main() -> int:
    """Read the settings and serve; returns the exit code."""
    try:
        settings = ApiSettings.load(CONFIG_FILE)
        configure(settings.service.log_level)
        for name, reason in without_effect(os.environ):
            logger.warning(f"{name} has no effect", reason=reason)
        token = ensure_token(settings.home)
        asyncio.run(serve(settings, token, listen(settings)))
    except OpmasError as error:
        sys.stderr.write(f"{error.message}\n  {error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
