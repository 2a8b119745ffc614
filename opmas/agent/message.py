"""What a handler is given, and what it may send: bytes, text, or anything that JSON can say."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, from_json, to_json

from opmas.bus import AnyBus, Msg
from opmas.wire.errors import InvalidRequest

Data = Any  # bytes, str, or what `to_json` takes: mappings, sequences, numbers, dates, pydantic models


def encode(data: Data) -> bytes:
    """Return bytes as they are, text as UTF-8, everything else as JSON. Raises `InvalidRequest`."""
    if isinstance(data, bytes):
        return data
    return data.encode() if isinstance(data, str) else as_json(data)


def as_json(data: Data) -> bytes:
    """Return `data` as JSON: also tuples, dates and models; NaN and infinity as null. Raises `InvalidRequest`."""
    try:
        return to_json(data, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{type(data).__name__} is not JSON: {error}", "JSON can say None, numbers, text, lists and dicts of these."
        ) from error


def clean(text: str) -> str:
    """Return `text` without what cannot be kept: NUL, and halves of surrogate pairs, as they come from file names."""
    text = text.replace("\0", "\ufffd")  # or it would read otherwise when it comes from PostgreSQL
    return text if text.isascii() else text.encode(errors="replace").decode()


class Message:
    """A message on a subject an agent listens to."""

    __slots__ = ("_bus", "_msg")

    def __init__(self, msg: Msg, bus: AnyBus) -> None:
        self._msg = msg
        self._bus = bus

    def __repr__(self) -> str:
        return f"Message(subject={self.subject!r}, {len(self.data)} bytes)"

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self._msg.subject

    @property
    def data(self) -> bytes:
        """The body as it came."""
        return self._msg.data

    @property
    def headers(self) -> Mapping[str, str]:
        """Its NATS headers."""
        return self._msg.headers

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none are replaced."""
        return self._msg.data.decode(errors="replace")

    def json(self) -> JsonValue:
        """Return the body as JSON. Raises `InvalidRequest`, also for nesting without end."""
        try:
            value: JsonValue = from_json(self._msg.data)
        except ValueError as error:
            raise InvalidRequest(f"the message on {self.subject} is not JSON: {error}") from error
        return value

    async def reply(self, data: Data) -> bool:
        """Answer whoever asked; False when nobody waits for an answer."""
        return await self._bus.respond(self._msg, encode(data))
