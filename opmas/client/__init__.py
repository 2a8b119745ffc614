"""The client library: what a caller of the API imports.

async with OpmasClient("http://127.0.0.1:8000", token) as opmas:
    run = await opmas.invoke("echo", "Hello!", wait=30)
    async for event in opmas.run_and_stream("echo", "Hello again!", session_id=run.session_id): ...

`BlockingClient` is the same without `await`.
"""

from opmas.client.blocking import BlockingClient
from opmas.client.breaker import CircuitState
from opmas.client.connection import CallOptions
from opmas.client.errors import CircuitOpen, RunFailed
from opmas.client.events import Confirmation, StreamedEvent
from opmas.client.opmas import OpmasClient, ServiceHealth
from opmas.wire.errors import (
    GatewayTimeout,
    InternalServerError,
    NotFound,
    OpmasError,
    ServiceUnavailable,
    Unauthorized,
)

__all__ = [
    "BlockingClient",
    "CallOptions",
    "CircuitOpen",
    "CircuitState",
    "Confirmation",
    "GatewayTimeout",
    "InternalServerError",
    "NotFound",
    "OpmasClient",
    "OpmasError",
    "RunFailed",
    "ServiceHealth",
    "ServiceUnavailable",
    "StreamedEvent",
    "Unauthorized",
]
