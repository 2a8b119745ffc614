"""A run's server-sent events, in the four types that existing clients know: start, chunk, end, error.

A replay of the record, live or later: the id of an event is its number there, so that whoever comes back with it
misses nothing and is told nothing twice. A stream that cannot go on (the API stops, the database is away, the
credentials have run out) closes with a comment, and its reader comes back; `end` and `error` are the run's own.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from management_api.auth.principal import Principal
from management_api.run_views import stream_event, written
from management_api.runs import Runs
from management_api.store.rows import RunRow, StoredEvent
from opmas.wire.errors import OpmasError
from opmas.wire.runs import EventKind, RunEvent

# What they tell depends on what the run's row says by then.
_TOLD_FROM_ROW: Final = frozenset({EventKind.CONFIRMATION, EventKind.END})


async def run_frames(runs: Runs, caller: Principal, run: RunRow, after: int) -> AsyncGenerator[bytes, None]:
    """Yield the frames of `run` that follow event number `after`, until its end."""
    try:
        async with aclosing(runs.follow(run, after)) as events:
            async for event in events:
                if not caller.is_valid():
                    yield format_sse_event(
                        comment="the credentials have expired or were revoked: come back with new ones"
                    )
                    return
                if event is None:
                    yield KEEPALIVE_COMMENT
                elif frame := await _frame(runs, caller, run, event):
                    yield frame
    except OpmasError as error:
        yield format_sse_event(comment=f"cannot go on: {error.message}")


async def _frame(runs: Runs, caller: Principal, run: RunRow, stored: StoredEvent) -> bytes | None:
    event = RunEvent.model_validate_json(stored.json)
    if event.kind in _TOLD_FROM_ROW:
        run = await runs.find(caller, run.id)
    shown = stream_event(run, event)
    return format_sse_event(data_str=written(shown), id=str(stored.seq)) if shown is not None else None
