"""What ends a command early, and the exit codes: one for each thing a script may want to tell apart."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    DENIED = 5
    CONFLICT = 6
    TIMED_OUT = 7
    WAITS = 8
    """The run waits for a human."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141


# The codes of `opmas.wire.errors` and of the API, written out: importing the classes costs pydantic, 0.15 s.
_EXITS = {
    "invalid_request": Exit.USAGE,
    "agent_not_found": Exit.NOT_FOUND,
    "not_found": Exit.NOT_FOUND,
    "run_not_found": Exit.NOT_FOUND,
    "session_not_found": Exit.NOT_FOUND,
    "file_not_found": Exit.NOT_FOUND,
    "agent_not_running": Exit.NOT_FOUND,
    "manager_unavailable": Exit.UNREACHABLE,
    "database_unavailable": Exit.UNREACHABLE,
    "rate_limited": Exit.UNREACHABLE,
    "key_set_unavailable": Exit.UNREACHABLE,
    "service_unavailable": Exit.UNREACHABLE,
    "queue_full": Exit.UNREACHABLE,
    "unreachable": Exit.UNREACHABLE,
    "too_many_streams": Exit.UNREACHABLE,
    "permission_denied": Exit.DENIED,
    "unauthenticated": Exit.DENIED,
    "conflict": Exit.CONFLICT,
    "idempotency_conflict": Exit.CONFLICT,
    "session_busy": Exit.CONFLICT,
    "confirmation_decided": Exit.CONFLICT,
    "takes_no_runs": Exit.CONFLICT,
    "deadline_exceeded": Exit.TIMED_OUT,
    "gateway_timeout": Exit.TIMED_OUT,
    "timed_out": Exit.TIMED_OUT,
    "usage": Exit.USAGE,
}


class Failure(Exception):
    """A command cannot do what was asked: what and why (`message`), what to do (`hint`), and a code for programs."""

    def __init__(self, message: str, hint: str = "", code: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    @property
    def exit(self) -> Exit:
        """The exit code that belongs to the error's code."""
        return exit_of(self.code)

    def body(self) -> dict[str, str]:
        """Shape this for `--json`, as errors look on the wire."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


def exit_of(code: str) -> Exit:
    """Tell the exit code for an error's code; what is unknown has failed."""
    return _EXITS.get(code, Exit.FAILED)
