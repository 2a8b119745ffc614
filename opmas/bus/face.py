"""The face that the NATS bus and the in-memory bus have in common, so that an agent can be driven without a server."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from opmas.bus.delivery import Handler, Msg
from opmas.bus.payload import Payload


class AnySubscription(Protocol):
    """Interest in a subject."""

    @property
    def in_flight(self) -> int:
        """How many of its messages are being handled now."""
        ...

    async def drain(self) -> None:
        """Take no more, and return when all that was taken is handled; the caller sets the deadline."""
        ...

    def abandon(self) -> int:
        """Cancel the handling of what is in flight; say how many messages that were."""
        ...


class AnyBus(Protocol):
    """Publish, request, subscribe."""

    @property
    def is_connected(self) -> bool:
        """Whether messages can leave now."""
        ...

    async def publish(self, subject: str, payload: Payload, headers: Mapping[str, str] | None = None) -> None:
        """Send a message to whoever listens."""
        ...

    async def request(
        self, subject: str, payload: Payload, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Send a message and wait for the first answer."""
        ...

    async def respond(self, msg: Msg, payload: Payload) -> bool:
        """Answer `msg` to its inbox; False when it has none."""
        ...

    async def subscribe(
        self, subject: str, handler: Handler, *, tasks: asyncio.TaskGroup, queue: str = "", concurrency: int = 64
    ) -> AnySubscription:
        """Hand each message on `subject` to `handler`, in a task of `tasks`, at most `concurrency` at a time."""
        ...

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Return when the server has seen all that was sent, subscriptions included."""
        ...
