"""The files of a run, fetched in pieces from whoever stores them: no instance has access to the store itself."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Coroutine

from opmas.bus import AnyBus, BusUnavailable, Msg, NoResponders
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded, error_of
from opmas.wire.messages import Response
from opmas.wire.runs import FilePiece, FilePieceRequest, FileRef

_ANSWER_S = 10.0
# The API may be restarting: seconds to wait before asking again.
_PAUSES_S = (0.2, 1.0, 3.0)
_FROM_THREAD_S = 300.0

Fetch = Callable[[str, int], Coroutine[None, None, FilePiece]]


class RunFile:
    """A file that came with a run."""

    __slots__ = ("_fetch", "_loop", "file_id", "name", "size", "type")

    def __init__(self, ref: FileRef, fetch: Fetch) -> None:
        self.file_id, self.name, self.type, self.size = ref.file_id, ref.name, ref.type, ref.size
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"RunFile({self.name!r}, {self.type}, {self.size} bytes)"

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content piece by piece. Raises `OpmasError` subclasses that say why it cannot be fetched."""
        offset: int | None = 0
        while offset is not None:
            piece = await self._fetch(self.file_id, offset)
            yield b64decode(piece.data)
            offset = piece.next

    async def read(self) -> bytes:
        """Return the whole content."""
        return b"".join([piece async for piece in self.chunks()])

    def read_from_thread(self) -> bytes:
        """Do what `read` does, from a thread."""
        return asyncio.run_coroutine_threadsafe(self.read(), self._loop).result(_FROM_THREAD_S)


class Files:
    """Where the files of one run come from."""

    def __init__(self, bus: AnyBus, agent_id: str, instance_id: str, run_id: str) -> None:
        self._bus = bus
        self._subject = subjects.file(agent_id)
        self._instance_id = instance_id
        self._run_id = run_id

    async def fetch(self, file_id: str, offset: int) -> FilePiece:
        """Ask for one piece."""
        request = FilePieceRequest(
            instance_id=self._instance_id, run_id=self._run_id, file_id=file_id, offset=offset
        ).encode()
        answer = await self._ask(request)
        response = Response.model_validate_json(answer.data) if b'"status"' in answer.data[:40] else None
        if response is not None and response.error is not None:
            raise error_of(response.error)
        return FilePiece.model_validate_json(answer.data)

    async def _ask(self, request: bytes) -> Msg:
        for pause in _PAUSES_S:
            try:
                return await self._bus.request(self._subject, request, _ANSWER_S)
            except (NoResponders, DeadlineExceeded, BusUnavailable):
                await asyncio.sleep(pause)
        return await self._bus.request(self._subject, request, _ANSWER_S)
