"""A stream of server-sent events that outlives connections: it goes on after the last event that arrived."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing

import httpx2
from pydantic import BaseModel

from opmas.client.connection import CallOptions, Connection, Model
from opmas.wire.errors import ErrorBody, GatewayTimeout, ServiceUnavailable, error_of

_AGAIN_S = 1.0

# What ends a stream although its reader may come back.
_PASSING = frozenset({"shutting_down"})


class _End(BaseModel):
    code: str
    message: str


async def followed(
    connection: Connection, path: str, model: type[Model], params: Mapping[str, str], options: CallOptions | None = None
) -> AsyncGenerator[Model]:
    """Yield what a stream tells, through lost connections and restarts of the API.

    Raises what the API refuses for good, and `ManagerUnavailable` when the first attempt reaches nobody.
    """
    last_id, told = "", False
    while True:
        try:
            async with aclosing(_events(connection, path, params, last_id, options)) as events:
                async for event in events:
                    told, last_id = True, event.id or last_id
                    if event.event == "end":
                        _raise_unless_passing(_End.model_validate_json(event.data))
                    elif event.data:
                        yield model.model_validate_json(event.data)
        except (ServiceUnavailable, GatewayTimeout):
            if not told:
                raise
        await asyncio.sleep(_AGAIN_S)


async def _events(
    connection: Connection, path: str, params: Mapping[str, str], last_id: str, options: CallOptions | None
) -> AsyncGenerator[httpx2.ServerSentEvent]:
    async with AsyncExitStack() as stack:
        source = await connection.stream(stack, path, params, last_id, options)
        try:
            async for event in source:
                yield event
        except httpx2.HTTPError as error:
            raise connection.unreachable(error) from error


def _raise_unless_passing(end: _End) -> None:
    if end.code not in _PASSING:
        raise error_of(ErrorBody(code=end.code, message=end.message))
