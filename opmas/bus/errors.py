"""What a caller of the bus can act on. Refused credentials are `PermissionDenied`, a late answer is `DeadlineExceeded`.

OpmasError
├── BusUnavailable   503  there is no connection, and none came in time
├── NoResponders     503  the server says that nobody listens to this subject
└── PayloadTooLarge  413
"""

from nats import errors

from opmas.wire.errors import InvalidRequest, OpmasError, PermissionDenied


class BusUnavailable(OpmasError):
    """There is no connection to NATS, and none came in time."""

    code, status = "bus_unavailable", 503


class NoResponders(OpmasError):
    """Nobody listens to the subject of this request; who should have listened is for the caller to say."""

    code, status = "no_responders", 503


class PayloadTooLarge(OpmasError):
    """The message is larger than the server takes; sending it would have cost the connection."""

    code, status = "payload_too_large", 413


def refusal(error: Exception, url: str) -> OpmasError | None:
    """Tell what trying again cannot mend; None for an error that may pass."""
    if isinstance(error, errors.InvalidUserCredentialsError):
        return PermissionDenied(
            "cannot connect to NATS: the credentials file holds no user JWT and seed",
            "It has the form that `nsc generate creds` writes.",
        )
    if isinstance(error, FileNotFoundError):
        return PermissionDenied(f"cannot connect to NATS: there is no credentials file {error.filename}")
    if "authorization" in str(error).lower():
        return PermissionDenied(
            f"cannot connect to NATS at {url}: the server refused the credentials",
            "Check user and password or the credentials file; credentials also expire.",
        )
    if "invalid connect url" in str(error):
        return InvalidRequest(f"cannot connect to NATS: {url!r} is not an address", "It looks like nats://host:4222.")
    return None
