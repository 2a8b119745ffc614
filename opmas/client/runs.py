"""Calls about runs: invoke an agent, wait or stream, decide what it asks, cancel; every one tried again if that helps.

An invocation is sent with an idempotency key, so that trying again never makes a second run.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime
from math import ceil
from typing import Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx2
from pydantic import JsonValue

from opmas.client.connection import CallOptions, Connection, agent_path, read
from opmas.client.errors import RunFailed
from opmas.client.events import StreamedEvent, confirmation_in
from opmas.client.retrying import Retrying, logger
from opmas.wire.errors import DeadlineExceeded
from opmas.wire.invocation import AgentRunResponse, OutwardStatus, RunList

POLL_S = 1.0
# A run has 10 minutes by default; who waits for it waits no less.
PATIENCE_S = 600.0
# A connection that brings nothing is not taken up again faster than this.
_PAUSE_S = 1.0
_END_S = 0.5


class RunCalls:
    """The part of `OpmasClient` that is about runs."""

    _api: Connection
    _retrying: Retrying

    async def invoke(
        self,
        agent_id: str,
        message: str,
        *,
        params: Mapping[str, JsonValue] | None = None,
        session_id: str | None = None,
        files: Sequence[str] = (),
        metadata: Mapping[str, JsonValue] | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AgentRunResponse:
        """Ask an agent; returns once the run is accepted, or with `wait` (seconds) as soon as it has ended or waits.

        `files` are ids of `upload`; an unknown or missing `session_id` begins a session. The same `idempotency_key`
        is the same run, however often it is sent; without one, this call makes one.
        """
        body = {
            "message": message,
            "params": dict(params or {}),
            "sessionId": session_id,
            "files": list(files),
            "metadata": dict(metadata or {}),
            "userId": self._api.user_id(options),
        }
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        headers |= {"Prefer": f"wait={ceil(wait)}"} if wait else {}
        answer = await self._retrying.exchange(
            "POST",
            agent_path(agent_id, "/runs"),
            options,
            headers=headers,
            json={name: value for name, value in body.items() if value},
            more_s=wait or 0.0,
        )
        return read(answer, AgentRunResponse)

    async def get_run(self, agent_id: str, run_id: str, **options: Unpack[CallOptions]) -> AgentRunResponse:
        """A run as it is now; raises `RunNotFound`."""
        return read(await self._retrying.exchange("GET", _run_path(agent_id, run_id), options), AgentRunResponse)

    async def runs(
        self,
        *,
        agent: str | None = None,
        session: str | None = None,
        status: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        **options: Unpack[CallOptions],
    ) -> RunList:
        """Runs, the newest first: of one agent, session, status or user, or since a time (ISO 8601)."""
        query = {"agent": agent, "session": session, "status": status, "since": since, "limit": limit, "offset": offset}
        query |= {"user": self._api.user_id(options) or None}
        answer = await self._retrying.exchange("GET", "/api/v1/runs", options, params=chosen(query))
        return read(answer, RunList)

    async def poll_until_complete(
        self, agent_id: str, run_id: str, *, within_s: float = PATIENCE_S, **options: Unpack[CallOptions]
    ) -> AgentRunResponse:
        """Ask every second until the run is completed, or waits for a confirmation.

        Raises `RunFailed` when it has failed, and `DeadlineExceeded` after `within_s` seconds; the run then goes on.
        """
        try:
            async with asyncio.timeout(within_s):
                while True:
                    run = await self.get_run(agent_id, run_id, **options)
                    if _is_settled(run):
                        break
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the run {run_id} has not ended within {within_s:g} s", "it goes on") from error
        if run.status is OutwardStatus.FAILED:
            raise RunFailed(run)
        return run

    async def stream(
        self,
        agent_id: str,
        run_id: str,
        *,
        last_event_id: str | None = None,
        within_s: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncGenerator[StreamedEvent]:
        """The events of a run, from its first or after `last_event_id`, until it ends; live, or of a run that is over.

        Goes on where it was when the connection or the API is lost, without gap or duplicate. A run that waits for a
        confirmation says so and goes on once it is decided. With `within_s`, raises `DeadlineExceeded` after so long.
        """
        loop = asyncio.get_running_loop()
        until = None if within_s is None else loop.time() + within_s
        async with aclosing(self._events(agent_id, run_id, last_event_id or "", options)) as events:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        event = await anext(events, None)
                except TimeoutError as error:
                    raise DeadlineExceeded(f"the run {run_id} has not ended in time", "it goes on") from error
                if event is None:  # `last_event_id` was that of the last one
                    return
                yield event
                if event.is_last:
                    return

    async def run_and_stream(
        self,
        agent_id: str,
        message: str,
        *,
        params: Mapping[str, JsonValue] | None = None,
        session_id: str | None = None,
        files: Sequence[str] = (),
        metadata: Mapping[str, JsonValue] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncGenerator[StreamedEvent]:
        """Ask an agent and stream the answer: `invoke`, then `stream`."""
        run = await self.invoke(
            agent_id,
            message,
            params=params,
            session_id=session_id,
            files=files,
            metadata=metadata,
            idempotency_key=idempotency_key,
            **options,
        )
        async with aclosing(self.stream(agent_id, run.run_id, **options)) as events:
            async for event in events:
                yield event

    async def confirm(
        self,
        agent_id: str,
        run_id: str,
        confirmation_id: str,
        confirmed: bool = True,
        *,
        note: str = "",
        arguments: Mapping[str, JsonValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> AgentRunResponse:
        """Decide what a run waits for; `arguments` replace those that were asked about.

        Raises `ConfirmationDecided` when somebody else was faster, or when it has expired.
        """
        body = {"confirmed": confirmed, "note": note}
        body |= {} if arguments is None else {"arguments": dict(arguments)}
        path = _run_path(agent_id, run_id, f"/confirmations/{quote(confirmation_id, safe='')}")
        return read(await self._retrying.exchange("POST", path, options, json=body), AgentRunResponse)

    async def cancel(self, agent_id: str, run_id: str, **options: Unpack[CallOptions]) -> AgentRunResponse:
        """Ask a run to end; one that an instance holds ends when its handler does."""
        path = _run_path(agent_id, run_id, "/cancel")
        return read(await self._retrying.exchange("POST", path, options), AgentRunResponse)

    async def _events(
        self, agent_id: str, run_id: str, last_id: str, options: CallOptions
    ) -> AsyncGenerator[StreamedEvent]:
        path, resuming = _run_path(agent_id, run_id, "/stream"), False
        while True:
            async with AsyncExitStack() as stack:

                async def opened(identified: CallOptions) -> httpx2.EventSource:
                    return await self._api.stream(stack, path, {}, last_id, identified)  # noqa: B023 - awaited below

                source = await self._retrying.call(f"GET {path}", options, opened, patient=resuming)
                if source.response.status_code == httpx2.codes.NO_CONTENT:
                    return
                resuming, brought = True, False
                arriving = aiter(source)
                try:
                    async for event in arriving:
                        if not event.data:
                            continue
                        told = StreamedEvent.of(event)
                        last_id, brought = event.id or last_id, True
                        if told.is_last:
                            await _read_out(arriving)
                        yield told
                except httpx2.HTTPError as error:
                    logger.warning("GET %s: lost after event %s: %s", path, last_id or "none", str(error))
            if not brought:
                await asyncio.sleep(_PAUSE_S)


async def _read_out(arriving: AsyncIterator[httpx2.ServerSentEvent]) -> None:
    """Read to where the stream ends, which is at once, so that the connection can be used again."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(_END_S):
            async for _ in arriving:
                pass


def _run_path(agent_id: str, run_id: str, part: str = "") -> str:
    return agent_path(agent_id, f"/runs/{quote(run_id, safe='')}{part}")


def _is_settled(run: AgentRunResponse) -> bool:
    return run.status in {OutwardStatus.COMPLETED, OutwardStatus.FAILED} or confirmation_in(run.data) is not None


def chosen(query: Mapping[str, object]) -> dict[str, str]:
    """Return the filters that are set, as they travel."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in query.items()
        if value is not None
    }
