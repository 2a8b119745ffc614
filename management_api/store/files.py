"""Files that callers store for runs, in pieces: small enough for one message to an instance, and for memory."""

from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from management_api.store.draft import load
from management_api.store.rows import FileRow
from management_api.store.schema import FILES, PIECES, RUNS
from opmas.wire.errors import FileNotFound, OpmasError
from opmas.wire.runs import FilePiece

PIECE = 256 * 1024
"""Bytes; in Base64 a third more, which fits a NATS message of 1 MiB."""

_COLUMNS = [FILES.c[one.name] for one in fields(FileRow)]


@dataclass(frozen=True, slots=True)
class PieceRequest:
    """An instance wants a piece of a file of a run that is its own."""

    agent_id: str
    run_id: str
    instance_id: str
    file_id: str
    offset: int


async def pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut what comes in into pieces; the last may be shorter, and there is none of nothing."""
    held = bytearray()
    async for part in content:
        held += part
        while len(held) >= PIECE:
            yield bytes(held[:PIECE])
            del held[:PIECE]
    if held:
        yield bytes(held)


def begin(connection: Connection, row: FileRow) -> None:
    """Make room for a file; nobody sees it yet."""
    connection.execute(insert(FILES), _values(row) | {"stored": False})


def add(connection: Connection, file_id: str, number: int, content: bytes) -> None:
    """Keep a piece."""
    connection.execute(insert(PIECES), {"file_id": file_id, "number": number, "content": content})


def finish(connection: Connection, row: FileRow) -> None:
    """Show the file, all pieces being there."""
    connection.execute(update(FILES).where(FILES.c.id == row.id).values(size=row.size, sha256=row.sha256, stored=True))


def drop(connection: Connection, file_id: str) -> None:
    """Remove a file with its pieces."""
    connection.execute(delete(FILES).where(FILES.c.id == file_id))


def find(connection: Connection, ids: Iterable[str], workspace: str | None) -> tuple[FileRow, ...]:
    """Read those of the files that are there, in the order of `ids`."""
    wanted = list(ids)
    query = select(*_COLUMNS).where(FILES.c.id.in_(wanted), FILES.c.stored.is_(True))
    found = connection.execute(query if workspace is None else query.where(FILES.c.workspace == workspace))
    known = {row["id"]: FileRow(**row) for row in found.mappings()}
    return tuple(known[one] for one in wanted if one in known)


def piece(connection: Connection, asked: PieceRequest) -> FilePiece | OpmasError:
    """Read from an offset to the end of that piece; only for the run's owner, and only a file of that run."""
    nothing = FileNotFound(f"cannot read file {asked.file_id}: {asked.instance_id} holds no run that has it")
    runs = load(
        connection, RUNS.c.id == asked.run_id, RUNS.c.agent_id == asked.agent_id, RUNS.c.owner == asked.instance_id
    )
    file = next((file for run in runs for file in run.files if file.file_id == asked.file_id), None)
    if file is None or not 0 <= asked.offset <= file.size:
        return nothing
    number, skipped = divmod(asked.offset, PIECE)
    query = select(PIECES.c.content).where(PIECES.c.file_id == asked.file_id, PIECES.c.number == number)
    content = connection.execute(query).scalar()
    if content is None and asked.offset < file.size:
        return nothing  # forgotten meanwhile
    data = (content or b"")[skipped:]
    end = asked.offset + len(data)
    return FilePiece(data=b64encode(data).decode(), next=end if end < file.size else None)


def _values(row: FileRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in _COLUMNS}
