"""Calls about sessions, the conversations that runs belong to, and about files, which runs are given."""

import asyncio
import mimetypes
from pathlib import Path
from typing import Literal, Unpack
from urllib.parse import quote

from opmas.client.connection import CallOptions, Connection, read
from opmas.client.retrying import Retrying
from opmas.client.runs import chosen
from opmas.wire.errors import InvalidRequest
from opmas.wire.invocation import FileView, SessionDetail, SessionList, SessionView

_PATH = "/api/v1/sessions"


class SessionCalls:
    """The part of `OpmasClient` that is about sessions and files."""

    _api: Connection
    _retrying: Retrying

    async def sessions(
        self,
        *,
        agent: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        **options: Unpack[CallOptions],
    ) -> SessionList:
        """Sessions, the most recently used first."""
        query = {"agent": agent, "limit": limit, "offset": offset, "user": self._api.user_id(options) or None}
        return read(await self._retrying.exchange("GET", _PATH, options, params=chosen(query)), SessionList)

    async def create_session(
        self,
        agent_id: str,
        *,
        title: str | None = None,
        session_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> SessionView:
        """Begin a session; an agent asked without one begins one by itself."""
        body = {
            "agentId": agent_id,
            "title": title,
            "sessionId": session_id,
            "userId": self._api.user_id(options) or None,
        }
        return read(await self._retrying.exchange("POST", _PATH, options, json=chosen(body)), SessionView)

    async def session(self, session_id: str, **options: Unpack[CallOptions]) -> SessionDetail:
        """A session with its messages, oldest first; raises `SessionNotFound`."""
        return read(await self._retrying.exchange("GET", _session_path(session_id), options), SessionDetail)

    async def rename_session(self, session_id: str, title: str, **options: Unpack[CallOptions]) -> SessionView:
        """Give a session another title."""
        answer = await self._retrying.exchange("PATCH", _session_path(session_id), options, json={"title": title})
        return read(answer, SessionView)

    async def delete_session(self, session_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete a session with its runs."""
        await self._retrying.exchange("DELETE", _session_path(session_id), options)

    async def export_session(
        self,
        session_id: str,
        *,
        format: Literal["json", "markdown"] = "json",  # noqa: A002 - the API's word
        **options: Unpack[CallOptions],
    ) -> str:
        """A session as one document, to keep or to read."""
        path = _session_path(session_id, "/export")
        return (await self._retrying.exchange("GET", path, options, params={"format": format})).text

    async def upload(
        self,
        content: Path | bytes,
        *,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
        **options: Unpack[CallOptions],
    ) -> FileView:
        """Store a file, by its path or its bytes; runs take its `file_id`. What the type is follows from the name."""
        name = name or (content.name if isinstance(content, Path) else "file")
        kind = type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        part = (name, await _bytes_of(content), kind)
        return read(await self._retrying.exchange("POST", "/api/v1/files", options, files={"file": part}), FileView)


async def _bytes_of(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return content
    try:
        return await asyncio.to_thread(content.read_bytes)
    except OSError as error:
        raise InvalidRequest(f"cannot read {content}: {error.strerror}") from error


def _session_path(session_id: str, part: str = "") -> str:
    return f"{_PATH}/{quote(session_id, safe='')}{part}"
