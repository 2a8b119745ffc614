"""The connection to NATS, one client class for the whole project."""

from opmas.bus.connection import Bus
from opmas.bus.correlation import correlated, correlation_id
from opmas.bus.delivery import Handler, Msg
from opmas.bus.errors import BusUnavailable, NoResponders, PayloadTooLarge
from opmas.bus.face import AnyBus, AnySubscription
from opmas.bus.memory import MemoryBus
from opmas.bus.micro import Endpoint, Service

__all__ = [
    "AnyBus",
    "AnySubscription",
    "Bus",
    "BusUnavailable",
    "Endpoint",
    "Handler",
    "MemoryBus",
    "Msg",
    "NoResponders",
    "PayloadTooLarge",
    "Service",
    "correlated",
    "correlation_id",
]
