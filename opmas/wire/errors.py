"""The errors that a caller can act on, and their shape on the wire.

The five in the middle stand for a kind of answer, whatever its code: who calls over HTTP may catch no others.

OpmasError
├── InvalidRequest        400  the message or parameters are wrong
├── Unauthorized          401
│   └── PermissionDenied  403
├── NotFound              404
│   ├── AgentNotFound
│   ├── RunNotFound
│   ├── SessionNotFound
│   └── FileNotFound
├── AgentNotRunning       409
├── Conflict              409
│   ├── IdempotencyConflict    the key was used for another request
│   ├── SessionBusy            the session has a run under way, and its agent takes one at a time
│   ├── ConfirmationDecided    the confirmation was decided, or the run does not wait any more
│   └── TakesNoRuns            the agent has no handler for runs
├── TooLarge              413
├── PackageInvalid        422  agent.yaml or the files beside it are wrong
├── RateLimited           429  too many requests of one caller
├── QueueFull             429  the agent has as many runs waiting as it may have
├── InternalServerError   500
│   └── AgentFailed            the agent did not start, or answered with an error
├── ServiceUnavailable    503
│   ├── ManagerUnavailable
│   └── DatabaseUnavailable
└── GatewayTimeout        504
    └── DeadlineExceeded
"""

from pydantic import BaseModel, ConfigDict


class ErrorBody(BaseModel):
    """An error in a response: `code` for programs, `message` (what and why) and `hint` (what to do) for people."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    hint: str = ""


class OpmasError(Exception):
    """What went wrong and why, with a hint that says what to do."""

    code: str = "internal_error"
    status: int = 500
    correlation_id: str = ""
    """Of the request that failed; what the client library raises has it."""
    retry_after_s: float | None = None
    """When it helps to ask again, if whoever refused said so."""

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


class Unauthorized(OpmasError):
    """The caller is not known, or may not do this."""

    code, status = "unauthenticated", 401


class NotFound(OpmasError):
    """There is no such thing for the caller."""

    code, status = "not_found", 404


class InternalServerError(OpmasError):
    """Something broke where the request was handled."""


class ServiceUnavailable(OpmasError):
    """Nobody can take the request now; asking again later helps."""

    code, status = "service_unavailable", 503


class GatewayTimeout(OpmasError):
    """No answer came in time; what was asked may have been done all the same."""

    code, status = "gateway_timeout", 504


class PermissionDenied(Unauthorized):
    """The caller is known but may not do this, or is not known."""

    code, status = "permission_denied", 403


class AgentNotFound(NotFound):
    """No agent of that id is registered."""

    code, status = "agent_not_found", 404


class AgentNotRunning(OpmasError):
    """The agent exists, but has no running instance to take the call."""

    code, status = "agent_not_running", 409


class Conflict(OpmasError):
    """The request contradicts what is there."""

    code, status = "conflict", 409


class RunNotFound(NotFound):
    """There is no such run for the caller."""

    code, status = "run_not_found", 404


class SessionNotFound(NotFound):
    """There is no such session for the caller."""

    code, status = "session_not_found", 404


class FileNotFound(NotFound):
    """There is no such file for the caller."""

    code, status = "file_not_found", 404


class IdempotencyConflict(Conflict):
    """The idempotency key belongs to a request that asked for something else."""

    code = "idempotency_conflict"


class SessionBusy(Conflict):
    """The session has a run under way, and the agent takes one at a time."""

    code = "session_busy"


class ConfirmationDecided(Conflict):
    """The confirmation was decided already, or its run does not wait for it any more."""

    code = "confirmation_decided"


class TakesNoRuns(Conflict):
    """The agent runs, but has no handler for runs."""

    code = "takes_no_runs"


class TooLarge(OpmasError):
    """More than may be sent at once."""

    code, status = "too_large", 413


class PackageInvalid(OpmasError):
    """The manifest, or a file beside it, is wrong: the message names file, line and column."""

    code, status = "package_invalid", 422


class RateLimited(OpmasError):
    """The caller has used up what it may ask in a while; nothing was done, and asking again later helps."""

    code, status = "rate_limited", 429


class QueueFull(OpmasError):
    """As many runs wait for the agent as may; the next has to come later."""

    code, status = "queue_full", 429


class AgentFailed(InternalServerError):
    """The agent could not be brought to the status asked for; the message carries its last log lines."""

    code, status = "agent_failed", 500


class ManagerUnavailable(ServiceUnavailable):
    """No manager answered."""

    code, status = "manager_unavailable", 503


class DatabaseUnavailable(ServiceUnavailable):
    """The database does not answer; agents keep running, nothing new is accepted."""

    code, status = "database_unavailable", 503


class DeadlineExceeded(GatewayTimeout):
    """It was accepted, but had not come to its end when the caller's time was up."""

    code, status = "deadline_exceeded", 504


_BY_CODE: dict[str, type[OpmasError]] = {
    error.code: error
    for error in (
        InvalidRequest,
        Unauthorized,
        PermissionDenied,
        NotFound,
        AgentNotFound,
        AgentNotRunning,
        RunNotFound,
        SessionNotFound,
        FileNotFound,
        Conflict,
        IdempotencyConflict,
        SessionBusy,
        ConfirmationDecided,
        TakesNoRuns,
        TooLarge,
        PackageInvalid,
        RateLimited,
        QueueFull,
        AgentFailed,
        ServiceUnavailable,
        ManagerUnavailable,
        DatabaseUnavailable,
        GatewayTimeout,
        DeadlineExceeded,
    )
}


def error_of(body: ErrorBody) -> OpmasError:
    """Make the exception that `body` describes; an unknown code becomes a plain `OpmasError`."""
    return _BY_CODE.get(body.code, OpmasError)(body.message, body.hint)
