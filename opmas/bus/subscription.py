"""Interest in a subject on NATS, kept over reconnects by the client."""

import logging

from nats import errors
from nats.aio.subscription import Subscription as NatsSubscription

from opmas.bus.client import SafeClient
from opmas.bus.delivery import Delivery

logger = logging.getLogger(__name__)


class Subscription:
    """Interest in a subject."""

    def __init__(self, client: SafeClient, subscription: NatsSubscription, delivery: Delivery) -> None:
        self._client = client
        self._subscription = subscription
        self._delivery = delivery

    @property
    def in_flight(self) -> int:
        """How many of its messages are being handled now."""
        return self._delivery.in_flight

    async def drain(self) -> None:
        """Take no more, and return when all that was taken is handled; the caller sets the deadline."""
        try:
            if self._client.is_connected:
                await self._subscription.drain()  # type: ignore[no-untyped-call]  # nats-py left it bare
            elif not self._client.is_closed:
                await self._subscription.unsubscribe()  # what still waits here is given up with the connection
        except errors.Error as error:  # the connection went meanwhile: nothing more can come in either
            logger.debug("cannot unsubscribe from %s: %s", self._subscription.subject, error)
        await self._delivery.settle()

    def abandon(self) -> int:
        """Cancel the handling of what is in flight; say how many messages that were."""
        return self._delivery.abandon()
