"""Bytes from the bus into messages; what cannot be understood is an `InvalidRequest` that says why."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from opmas.wire.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)

# A stranger chose the names of the fields.
_MAX_PLACE = 500


def decode(kind: type[M], data: bytes) -> M:
    """Read one message. Raises `InvalidRequest`."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise InvalidRequest(f"cannot understand the message: {problems(error)}", "send JSON as documented") from None
    except RecursionError:
        raise InvalidRequest("cannot understand the message: it is nested too deeply") from None


def problems(error: ValidationError) -> str:
    """Name the first few things that are wrong, each with its place."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[:5]
    return "; ".join(f"{'.'.join(map(str, each['loc']))[:_MAX_PLACE] or 'message'}: {each['msg']}" for each in found)
