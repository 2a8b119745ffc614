"""What a caller asks, made into a run to put on record."""

import hashlib
import secrets
import time

from management_api.auth.principal import Principal
from management_api.runs.visibility import speaks_for
from management_api.store.rows import NewRun
from opmas.bus import correlation_id as current_correlation
from opmas.wire.errors import TooLarge
from opmas.wire.invocation import InvokeRequest
from opmas.wire.runs import FileRef
from opmas.wire.views import AgentView

# An instance is given a run in one message of at most a megabyte, with up to 200 KB of what was said before.
_MAX_REQUEST = 640_000

_NANOS = 1_000_000


def new_run_id() -> str:
    """Make an id that sorts by time: milliseconds, their 4,096ths and randomness, as in a UUID of version 7."""
    at = time.time_ns()
    return f"{at // _NANOS:012x}7{at % _NANOS * 4096 // _NANOS:03x}{secrets.token_hex(8)}"


def new_run(
    caller: Principal,
    agent: AgentView,
    request: InvokeRequest,
    files: tuple[FileRef, ...],
    idempotency_key: str | None,
    correlation_id: str,
) -> NewRun:
    """Shape a run of `agent`. Raises `TooLarge` for what no instance could be given."""
    user_id = speaks_for(caller, request.user_id)
    # Whether the answer is streamed makes it no other request.
    asked = request.model_dump_json(exclude={"stream", "user_id"}).encode()
    if len(asked) > _MAX_REQUEST:
        raise TooLarge(f"cannot give an instance {len(asked)} bytes: the limit is {_MAX_REQUEST}", "use a file")
    marked = b"\0".join((agent.id.encode(), user_id.encode(), asked))
    return NewRun(
        run_id=new_run_id(),
        workspace=caller.workspace,
        user_id=user_id,
        agent_id=agent.id,
        session_id=request.session_id or None,
        message=request.message,
        params=request.params,
        files=files,
        metadata=request.metadata,
        correlation_id=correlation_id or current_correlation() or "",
        repeats=bool(correlation_id),
        request_hash=hashlib.sha256(marked).hexdigest(),
        idempotency_key=idempotency_key,
        actor=caller.title,
        spec=agent.runs,
    )
