"""The whole life of an instance with its first run, lived several times in a template before it forks any.

What Python and the libraries keep of a first time (attribute lookups, specialised bytecode, regular expressions, lazily
built classes) is then made once and shared by all forks; made in the fork, it costs each of them 1.5 MB. The bus it
connects to is an impostor on the loopback interface, just good enough for one connection and one run. Leaves no thread,
descriptor, module or file behind.
"""

import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType

import nkeys  # type: ignore[import-untyped]

from opmas.agent.environment import Environment
from opmas.agent.runtime import live
from opmas.wire import subjects
from opmas.wire.runs import Assignment, Claimed, Frame, FrameReply, RunInput

logger = logging.getLogger(__name__)

# So many copies of a life's code fill the holes of its sizes among what was imported; more saves no more.
_FILLINGS = 3
# Python 3.11 specialises a function from its eighth call on; a life is 10 ms.
_LIVES = 20
_DEADLINE_S = 20.0

_AGENT_ID = "rehearsal"
_DRAIN = b'{"command":"drain","agent_id":"rehearsal"}'
_SOURCE = """\
from opmas.agent import Agent
agent = Agent()

@agent.run
async def answer(ctx):
    await ctx.send("re")
    async with ctx.tool("tool", {"text": "x"}) as call:
        call.result = "x"
    ctx.usage(model="m", total_tokens=1)
    return "rehearsed"
"""
_ASSIGNED = Claimed(
    assignments=(
        Assignment(
            run_id="rehearsal",
            epoch=1,
            next_seq=1,
            lease_s=30.0,
            input=RunInput(message="hello", workspace_id="w", user_id="u", session_id="s", correlation_id="c"),
        ),
    )
).encode()
_INFO = (
    b'INFO {"server_id":"R","version":"2.12.0","proto":1,"host":"127.0.0.1","port":4222,"headers":true,'
    b'"max_payload":1048576,"client_id":1,"auth_required":true,"nonce":"cmVoZWFyc2Fs"}\r\n'
)
_CREDENTIALS = """\
-----BEGIN NATS USER JWT-----
rehearsal.of.nobody
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{}
------END USER NKEY SEED------
"""


def rehearse(source: str = _SOURCE, runtime: str = "python") -> None:
    """Live as the agent in `source`. A failure costs memory, no more, and is logged."""
    # Full of names that only imports look up; each would be written to once more when a fork puts another in its place.
    sys._clear_type_cache()
    try:
        with tempfile.TemporaryDirectory(prefix="opmas-rehearsal-") as folder:
            _write(Path(folder), source)
            loop = asyncio.new_event_loop()
            try:
                with _watching() as called:
                    loop.run_until_complete(_live_once(Path(folder), runtime))
                    _forget(folder)
                _gather(called)
                code = 0
                for _ in range(_LIVES):
                    code = loop.run_until_complete(_live_once(Path(folder), runtime))
                    _forget(folder)
            finally:
                _forget(folder)
                loop.close()
            if code:
                logger.warning("the rehearsal ended with code %d: instances will take more memory", code)
    except (OSError, TimeoutError):
        logger.warning("cannot rehearse: instances will take more memory", exc_info=True)


@contextmanager
def _watching() -> Iterator[set[CodeType]]:
    """Collect the code of all functions that are called meanwhile."""
    called: set[CodeType] = set()
    sys.setprofile(lambda frame, event, _: called.add(frame.f_code) if event == "call" else None)
    try:
        yield called
    finally:
        sys.setprofile(None)


def _gather(called: set[CodeType]) -> None:
    """Move the code of these functions together, by giving each a copy of its own.

    To call a function is to write on its code, which counts its users. Where modules have left them, the 600 functions
    of a life lie on 400 pages, most of which hold nothing else that a life needs; together on 100.
    """
    gc.collect()
    # Copies that are thrown away take the holes, so that those which stay lie side by side.
    fillers = [code.replace() for _ in range(_FILLINGS) for code in called]
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__ in called:
            each.__code__ = each.__code__.replace()
    del fillers


def _write(folder: Path, source: str) -> None:
    (folder / "agent.py").write_text(source)
    (folder / "config.json").write_text('{"config": {"key": "value"}, "schema": {"type": "object"}}')
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    (folder / "creds").write_text(_CREDENTIALS.format(seed.decode()))


def _forget(folder: str) -> None:
    sys.modules.pop(f"opmas_agent_{_AGENT_ID}", None)
    while folder in sys.path:
        sys.path.remove(folder)


async def _live_once(folder: Path, runtime: str) -> int:
    server = await asyncio.start_server(_pretend, "127.0.0.1", 0)
    async with server, asyncio.timeout(_DEADLINE_S):
        port = server.sockets[0].getsockname()[1]
        return await live(
            Environment.read(
                {
                    "AGENT_ID": _AGENT_ID,
                    "NATS_URL": f"nats://127.0.0.1:{port}",
                    "NATS_CREDS": str(folder / "creds"),
                    "OPMAS_CONFIG": str(folder / "config.json"),
                    "OPMAS_PACKAGE_DIR": str(folder),
                    "OPMAS_RUNTIME": runtime,
                }
            )
        )


async def _pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _Impostor(writer).serve(reader)


class _Impostor:
    """A NATS server to one client, with an API behind it that has one run to give away.

    When that has ended, or when the first heartbeat says that the agent takes none, it is told to drain.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._sids: dict[bytes, bytes] = {}
        self._work = [_ASSIGNED]

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Answer until the client goes."""
        self._writer.write(_INFO)
        while line := await reader.readline():
            verb, *words = line.split()
            if verb == b"PING":
                self._writer.write(b"PONG\r\n")
            elif verb == b"SUB":
                self._sids[words[0]] = words[-1]
            elif verb in (b"PUB", b"HPUB"):
                body = (await reader.readexactly(int(words[-1]) + 2))[:-2]
                self._take(words[0], words[1], body[int(words[-2]) :] if verb == b"HPUB" else body)
        self._writer.close()

    def _take(self, subject: bytes, reply: bytes, body: bytes) -> None:
        match subject.split(b".")[2]:
            case b"claim":
                self._send(reply, self._work.pop() if self._work else Claimed().encode())
            case b"event":
                frame = Frame.model_validate_json(body)
                self._send(reply, FrameReply(seq=frame.first_seq + len(frame.events) - 1).encode())
                if any(event.end for event in frame.events):
                    self._drain()
            case b"status" if b'"takes_runs":false' in body:
                self._drain()

    def _drain(self) -> None:
        self._send(subjects.command(_AGENT_ID).encode(), _DRAIN)

    def _send(self, subject: bytes, body: bytes) -> None:
        # A request is answered to an inbox, which is subscribed to with a wildcard at its end.
        sid = self._sids.get(subject) or self._sids[subject.rpartition(b".")[0] + b".*"]
        self._writer.write(b"MSG %b %b %d\r\n%b\r\n" % (subject, sid, len(body), body))
