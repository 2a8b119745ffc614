"""What a caller of the bus can act on. Refused credentials are `PermissionDenied`, a late answer is `DeadlineExceeded`.

OpmasError
├── BusUnavailable   503  there is no connection, and none came in time
├── NoResponders     503  the server says that nobody listens to this subject
└── PayloadTooLarge  413
"""

from opmas.wire.errors import OpmasError


class BusUnavailable(OpmasError):
    """There is no connection to NATS, and none came in time."""

    code, status = "bus_unavailable", 503


class NoResponders(OpmasError):
    """Nobody listens to the subject of this request; who should have listened is for the caller to say."""

    code, status = "no_responders", 503


class PayloadTooLarge(OpmasError):
    """The message is larger than the server takes; sending it would have cost the connection."""

    code, status = "payload_too_large", 413
