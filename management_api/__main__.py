"""Run the API: `python -m management_api`, or `opmas api run`."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn
import uvloop

from management_api.app import create_app
from management_api.settings import CONFIG_FILE, ApiSettings, without_effect
from management_api.streams import Streams
from management_api.token import ensure_token
from opmas.logs import configure
from opmas.settings import SettingsInvalid
from opmas.wire.errors import Conflict, OpmasError

logger = structlog.get_logger("management_api")


class _Server(uvicorn.Server):
    """Ends at the first SIGTERM or SIGINT in order, at the second at once, and with exit code 0 either way."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays for good: looked through anew each time, it would cost a quarter of a busy API's time.
        gc.freeze()
        # A run makes a few hundred objects, and next to none in cycles: looking for those so often is in vain.
        gc.set_threshold(20_000, 20, 20)

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
        self._streams.stop()


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Bind a port; raises `Conflict`, naming the setting, when it cannot be had."""
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
        raise Conflict(
            f"cannot listen on {host}:{port}: {why}", f"set {setting} or {setting.replace('PORT', 'HOST')}"
        ) from error
    return listener


async def serve(settings: ApiSettings, token: str, sockets: list[socket.socket]) -> None:
    """Serve until a signal ends it."""
    streams, tls = Streams(settings.service.max_streams), settings.service.tls
    agentos_port = sockets[1].getsockname()[1] if len(sockets) > 1 else None
    config = uvicorn.Config(
        create_app(settings, token, streams, agentos_port),
        log_config=None,
        access_log=False,  # the gate writes one line a request, with its correlation id
        server_header=False,
        lifespan="on",
        ssl_certfile=tls.cert,
        ssl_keyfile=tls.key,
        timeout_graceful_shutdown=round(settings.service.shutdown_timeout) or 1,
    )
    try:
        config.load()
    except OSError as error:  # of reading the files, or of what is in them
        raise SettingsInvalid(
            f"cannot speak TLS with {tls.cert} and {tls.key}: {error}", "both are PEM files; see service.tls"
        ) from error
    scheme = "https" if config.is_ssl else "http"
    urls = dict(zip(("url", "agentos_url"), (_url(scheme, one) for one in sockets), strict=False))
    logger.info("listening", **urls, home=str(settings.home))
    await _Server(config, streams).serve(sockets)


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _raise_file_limit() -> None:
    """Take as many file descriptors as may be had: the usual 1,024 would end with so many streams."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Read the settings and serve; returns the exit code."""
    try:
        _raise_file_limit()
        settings = ApiSettings.load(CONFIG_FILE)
        configure(settings.service.log_level)
        for name, reason in without_effect(os.environ):
            logger.warning(f"{name} has no effect", reason=reason)
        if settings.auth.mode == "none":
            logger.warning("authentication is off", consequence="every program of this machine administers the agents")
        token = ensure_token(settings.home)
        uvloop.run(serve(settings, token, [listen(*face) for face in settings.service.faces()]))
    except OpmasError as error:
        sys.stderr.write(f"{error.message}\n  {error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
