"""What the OpenAPI document says beyond what the routes' signatures say: errors, examples, streams, tags."""

from typing import Any, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, JsonValue

from management_api.errors import HttpError
from opmas.wire.messages import Response

Answers: TypeAlias = dict[int | str, dict[str, Any]]

TAGS = [
    {"name": "agents", "description": "What agents there are, and how they are."},
    {"name": "registration", "description": "Make agents from packages, change and delete them."},
    {"name": "control", "description": "Start, stop and the like, one agent or many."},
    {"name": "runs", "description": "Ask agents, and follow what becomes of it."},
    {"name": "sessions", "description": "Runs that share a conversation."},
    {"name": "files", "description": "What runs may read."},
    {"name": "history", "description": "What happened, and who commanded it."},
    {"name": "fleet", "description": "Packages, nodes and the system."},
    {"name": "tokens", "description": "API keys."},
    {"name": "health", "description": "For probes and Prometheus."},
]

_ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("invalid_request", "The request cannot be understood", "cannot use the request: tail: must be 0 or more"),
    401: (
        "unauthenticated",
        "The token is missing or wrong",
        "cannot let you in: the bearer token is missing or wrong",
    ),
    403: ("permission_denied", "The caller may not do this", "cannot do this: it takes the scope agents:write"),
    404: ("agent_not_found", "There is no such agent for the caller", "there is no agent 'ecko'"),
    409: ("conflict", "It contradicts what is there", "cannot register 'echo': there is an agent of that id"),
    413: ("too_large", "The body is too large", "cannot take this body: it is too large"),
    422: ("package_invalid", "The package is wrong", "cannot use packages/echo/agent.yaml:3:1: unknown key 'nmae'"),
    429: ("rate_limited", "Too many requests", "cannot take more than 50 requests a second of one key"),
    500: ("internal_error", "It failed", "cannot start 'echo': exit code 1"),
    503: ("manager_unavailable", "No manager answers; try again", "cannot reach any manager: none is listening"),
    504: ("deadline_exceeded", "Accepted, but not reached in time", "accepted, but 'echo' is still starting after 5 s"),
}
# What any request may meet.
_ALWAYS = (400, 401, 403, 429, 500, 503)


def answers(*statuses: int, example: BaseModel | None = None, success: int = 200) -> Answers:
    """Describe what a route answers: its errors, those that any may have included, and an example of its success."""
    described: Answers = {status: _error(status) for status in sorted({*statuses, *_ALWAYS})}
    if example is not None:
        described[success] = {"content": {"application/json": {"example": example.model_dump(mode="json")}}}
    return described


def commanded(*statuses: int, example: Response) -> Answers:
    """Describe a route that answers in the response format: errors of the manager come in it too."""
    described = answers(404, 409, 413, 422, 504, *statuses, example=example)
    for status in (400, 403, 404, 409, 422, 500, 503, 504):
        described[status]["model"] = Response | HttpError
    return described


def streamed(described: Answers, data: type[BaseModel], last: str = "`end`") -> Answers:
    """Add that the answer can also be a stream of `data`, and which events are its `last`."""
    content = described.setdefault(200, {}).setdefault("content", {})
    event = {"id": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}}
    content["text/event-stream"] = {
        "schema": {
            "type": "object",
            "description": f"Server-sent events; each `data` is a {data.__name__}; the last is {last}.",
            "properties": event,
        }
    }
    return described


def _error(status: int) -> dict[str, Any]:
    code, description, message = _ERRORS[status]
    body = HttpError(statusCode=status, message=message, error=code, correlationId="6f1c2d", hint="what to do about it")
    content: dict[str, JsonValue] = {"application/json": {"example": body.model_dump()}}
    described: dict[str, Any] = {"model": HttpError, "description": description, "content": content}
    if status in {429, 503}:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "in seconds"}}
    return described


def install(app: FastAPI) -> None:
    """Have `app` describe its errors as they are: FastAPI's own 422 is answered as our 400."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _mended(describe())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way


def _mended(document: dict[str, Any]) -> dict[str, Any]:
    for item in document["paths"].values():
        for operation in item.values():
            unprocessable = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(unprocessable):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document
