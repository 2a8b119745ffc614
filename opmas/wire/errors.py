"""The errors that a caller can act on, and their shape on the wire.

OpmasError
├── InvalidRequest        400  the message or parameters are wrong
├── PermissionDenied      403
├── AgentNotFound         404
├── AgentNotRunning       409
├── Conflict              409
├── PackageInvalid        422  agent.yaml or the files beside it are wrong
├── RateLimited           429  too many requests of one caller
├── AgentFailed           500  the agent did not start, or answered with an error
├── ManagerUnavailable    503
├── DatabaseUnavailable   503
└── DeadlineExceeded      504
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ErrorBody(BaseModel):
    """An error in a response: `code` for programs, `message` (what and why) and `hint` (what to do) for people."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    hint: str = ""


class OpmasError(Exception):
    """What went wrong and why, with a hint that says what to do."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def body(self) -> ErrorBody:
        """Shape this error for the wire."""
        return ErrorBody(code=self.code, message=self.message, hint=self.hint)


class InvalidRequest(OpmasError):
    """The message or one of its parameters cannot be understood."""

    code, status = "invalid_request", 400


class PermissionDenied(OpmasError):
    """The caller is known but may not do this, or is not known."""

    code, status = "permission_denied", 403


class AgentNotFound(OpmasError):
    """No agent of that id is registered."""

    code, status = "agent_not_found", 404


class AgentNotRunning(OpmasError):
    """The agent exists, but has no running instance to take the call."""

    code, status = "agent_not_running", 409


class Conflict(OpmasError):
    """The request contradicts what is there."""

    code, status = "conflict", 409


class PackageInvalid(OpmasError):
    """The manifest, or a file beside it, is wrong: the message names file, line and column."""

    code, status = "package_invalid", 422


class RateLimited(OpmasError):
    """The caller has used up what it may ask in a while; nothing was done, and asking again later helps."""

    code, status = "rate_limited", 429


class AgentFailed(OpmasError):
    """The agent could not be brought to the status asked for; the message carries its last log lines."""

    code, status = "agent_failed", 500


class ManagerUnavailable(OpmasError):
    """No manager answered."""

    code, status = "manager_unavailable", 503


class DatabaseUnavailable(OpmasError):
    """The database does not answer; agents keep running, nothing new is accepted."""

    code, status = "database_unavailable", 503


class DeadlineExceeded(OpmasError):
    """It was accepted, but had not come to its end when the caller's time was up."""

    code, status = "deadline_exceeded", 504


_BY_CODE: dict[str, type[OpmasError]] = {
    error.code: error
    for error in (
        InvalidRequest,
        PermissionDenied,
        AgentNotFound,
        AgentNotRunning,
        Conflict,
        PackageInvalid,
        RateLimited,
        AgentFailed,
        ManagerUnavailable,
        DatabaseUnavailable,
        DeadlineExceeded,
    )
}


def error_of(body: ErrorBody) -> OpmasError:
    """Make the exception that `body` describes; an unknown code becomes a plain `OpmasError`."""
    return _BY_CODE.get(body.code, OpmasError)(body.message, body.hint)
