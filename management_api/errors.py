"""Every error that leaves the API, in one shape: `{statusCode, message, error, correlationId, hint}`.

Control routes answer a manager's refusal in the response format instead (see `control`); this is for all the rest,
from a mistyped path to an unreadable body. What nobody foresaw is answered by the gate.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from opmas.bus import correlation_id
from opmas.wire.errors import OpmasError

_CODES = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
_HINTS = {
    404: "the routes are listed at /openapi.json",
    405: "the routes and their methods are listed at /openapi.json",
    413: "send less at once; what a run shall read can be stored by POST /api/v1/files before",
}


class HttpError(BaseModel):
    """An error's body. `error` is the code for programs; `message` and `hint` are for people."""

    statusCode: int  # noqa: N815 - the contract with existing clients asks for camelCase
    message: str
    error: str
    correlationId: str  # noqa: N815 - as above
    hint: str = ""


def error_response(
    status: int, message: str, code: str = "", hint: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Shape one error."""
    body = HttpError(
        statusCode=status,
        message=message,
        error=code or _CODES.get(status, "internal_error"),
        correlationId=correlation_id() or "",
        hint=hint or _HINTS.get(status, ""),
    )
    return JSONResponse(body.model_dump(), status, headers=headers)


def retry_headers(status: int) -> dict[str, str]:
    """Tell a caller when to ask again, where that helps: a manager is back, or a queue has room, in a second."""
    helps = status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
    return {"Retry-After": "1"} if helps else {}


def install(app: FastAPI) -> None:
    """Give `app` its handlers."""
    app.add_exception_handler(OpmasError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _known(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OpmasError)  # noqa: S101 - narrows the type; starlette calls by class
    return error_response(error.status, error.message, error.code, error.hint, retry_headers(error.status))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    return error_response(400, explain(error.errors()))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
        headers["Allow"] = methods
    return error_response(error.status_code, str(error.detail), headers=headers)


def _methods(request: Request) -> str:
    """List all methods that a path takes: a route knows only its own."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    path = request.url.path
    templates = (item for template, item in paths.items() if compile_path(template)[0].match(path))
    item = paths[path] if path in paths else next(templates, {})
    return ", ".join(sorted(method.upper() for method in item))


def explain(problems: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line what is wrong with a request, without repeating what was sent."""
    return "cannot use the request: " + "; ".join(map(_reason, problems[:5]))


def _reason(problem: Mapping[str, Any]) -> str:
    kind, place = problem["type"], [str(part) for part in problem["loc"] if part not in {"body", "query", "path"}]
    if kind == "json_invalid":
        return f"the body is no JSON: {problem['ctx']['error']}, at character {problem['loc'][-1]}"
    if kind == "model_attributes_type" and not place:  # also what curl sends when it is not told otherwise
        return "the body is no JSON object, or its Content-Type is not application/json"
    words = str(problem["msg"]).removeprefix("Value error, ")  # which pydantic puts before those of our own checks
    reason = {"extra_forbidden": "unknown parameter", "missing": "is required"}.get(kind, words)
    return f"{'.'.join(place)[:80]}: {reason}" if place else reason
