"""A stream of server-sent events that outlives connections: it goes on after the last event that arrived."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx2
from pydantic import BaseModel

from opmas.client.connection import Connection, Model, error_in
from opmas.wire.errors import DatabaseUnavailable, ErrorBody, ManagerUnavailable, error_of

_AGAIN_S = 1.0

# What ends a stream although its reader may come back.
_PASSING = frozenset({"shutting_down"})


class _End(BaseModel):
    code: str
    message: str


async def followed(
    connection: Connection, path: str, model: type[Model], params: Mapping[str, str]
) -> AsyncGenerator[Model]:
    """Yield what a stream tells, through lost connections and restarts of the API.

    Raises what the API refuses for good, and `ManagerUnavailable` when the first attempt reaches nobody.
    """
    last_id, told = "", False
    while True:
        try:
            async with aclosing(_events(connection, path, params, last_id)) as events:
                async for event in events:
                    told, last_id = True, event.id or last_id
                    if event.event == "end":
                        _raise_unless_passing(_End.model_validate_json(event.data))
                    elif event.data:
                        yield model.model_validate_json(event.data)
        except httpx2.HTTPError as error:
            if not told:
                raise connection.unreachable(error) from error
        except (ManagerUnavailable, DatabaseUnavailable):
            if not told:
                raise
        await asyncio.sleep(_AGAIN_S)


async def _events(
    connection: Connection, path: str, params: Mapping[str, str], last_id: str
) -> AsyncGenerator[httpx2.ServerSentEvent]:
    async with connection.stream(path, params, last_id) as source:
        if source.response.is_error:
            await source.response.aread()
            raise error_in(source.response)
        async for event in source:
            yield event


def _raise_unless_passing(end: _End) -> None:
    if end.code not in _PASSING:
        raise error_of(ErrorBody(code=end.code, message=end.message))
