"""What a client raises: `opmas.wire.errors`, by the answer's code or else by its status, and two errors of its own.

OpmasError
├── Unauthorized           401, 403
├── NotFound               404: AgentNotFound, RunNotFound, SessionNotFound, FileNotFound
├── InvalidRequest, Conflict, TooLarge, RateLimited, QueueFull, …   every other 4xx
├── ServiceUnavailable     no connection, or 503
│   └── CircuitOpen        five failures in a row: for the next seconds nothing is sent
├── GatewayTimeout         no answer in time, or 504
├── InternalServerError    every other 5xx
└── RunFailed              the run that was waited for has failed

Each has `status`, `code`, `message`, `hint` and `correlation_id`; what says when to come back has `retry_after_s`.
None of them holds a token.
"""

from collections.abc import Mapping
from http import HTTPStatus

import httpx2

from opmas.wire.errors import (
    Conflict,
    ErrorBody,
    GatewayTimeout,
    InternalServerError,
    InvalidRequest,
    NotFound,
    OpmasError,
    PermissionDenied,
    RateLimited,
    ServiceUnavailable,
    TooLarge,
    Unauthorized,
    error_of,
)
from opmas.wire.invocation import AgentRunResponse

_BY_STATUS: Mapping[int, type[OpmasError]] = {
    400: InvalidRequest,
    401: PermissionDenied,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: RateLimited,
    503: ServiceUnavailable,
    504: GatewayTimeout,
}


class CircuitOpen(ServiceUnavailable):
    """Too many calls in a row have failed, so this one was not sent; `retry_after_s` is the time left."""

    code = "circuit_open"


class RunFailed(OpmasError):
    """The run has failed; `run` is all that is known of it."""

    code = "run_failed"

    def __init__(self, run: AgentRunResponse) -> None:
        reason = str((run.data or {}).get("reason") or "")
        super().__init__(run.error or f"the run {run.run_id} has failed: {reason or 'nobody says why'}")
        self.run = run
        self.reason = reason


def error_in(answer: httpx2.Response) -> OpmasError:
    """Make the exception that an answer describes: a response's `error`, or the API's own shape."""
    error = _described(answer)
    error.status = answer.status_code
    error.correlation_id = answer.request.headers.get("x-correlation-id", "")
    error.retry_after_s = _seconds(answer.headers.get("retry-after", ""))
    return error


def _described(answer: httpx2.Response) -> OpmasError:
    try:
        document = answer.json()
        given = document["error"]
        body = (
            ErrorBody.model_validate(given)
            if isinstance(given, dict)
            else ErrorBody(code=given, message=document["message"], hint=document.get("hint") or "")
        )
    except (ValueError, KeyError, TypeError):
        where = f"{answer.status_code} of {answer.request.url.copy_with(query=None)}"
        return _kind(answer.status_code)(f"cannot use the answer {where}: is it OPMAS?")
    error = error_of(body)
    if type(error) in {OpmasError, Unauthorized}:  # a code that only HTTP knows, or 401, which is PermissionDenied too
        error = _kind(answer.status_code)(body.message, body.hint)
    error.code = body.code
    return error


def _kind(status: int) -> type[OpmasError]:
    fallback = InternalServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else OpmasError
    return _BY_STATUS.get(status, fallback)


def _seconds(text: str) -> float | None:
    return float(text) if text.strip().isdecimal() else None
