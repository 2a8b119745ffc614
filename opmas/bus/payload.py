"""What goes into a message: bytes within the server's limit, and the headers that mark an error."""

from opmas.bus.errors import PayloadTooLarge
from opmas.wire.messages import Message, Response

Payload = Message | bytes

# Room for headers below the server's limit: a message that reaches it with its headers costs the connection.
_HEADROOM = 8 * 1024


def encoded(payload: Payload, max_payload: int) -> bytes:
    """Return the bytes to send. Raises `PayloadTooLarge` beyond what a server with `max_payload` takes."""
    data = payload if isinstance(payload, bytes) else payload.encode()
    limit = max_payload - _HEADROOM
    if len(data) > limit:
        raise PayloadTooLarge(
            f"cannot send {len(data)} bytes: the limit of this NATS server is {limit}",
            "Send it in parts, or send where it is to be found.",
        )
    return data


def error_headers(payload: Payload) -> dict[str, str] | None:
    """Return the headers of ADR-32, by which any NATS service client recognises an error; None for anything else."""
    if not isinstance(payload, Response) or payload.error is None:
        return None
    message = payload.error.message[:512].encode("ascii", "replace").decode()
    return {"Nats-Service-Error": message, "Nats-Service-Error-Code": payload.error.code}
