"""The decorators by which an author says what a function is for, and the collection of what they marked."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from opmas.wire.errors import InvalidRequest

if TYPE_CHECKING:
    from opmas.agent.author import Agent

F = TypeVar("F", bound=Callable[..., Any])

_MARKS = "__opmas_marks__"

# Answered by the SDK for every agent.
COMMANDS = frozenset({"cancel", "drain", "reload", "log_level"})
QUERIES = frozenset({"health", "metrics", "info"})


class Kind(StrEnum):
    """What a function handles."""

    MESSAGE = "message"
    COMMAND = "command"
    QUERY = "query"
    RUN = "run"
    RESUME = "resume"


# What a handler of each kind is called with.
_GIVEN = {
    Kind.MESSAGE: ("the message",),
    Kind.COMMAND: ("params",),
    Kind.QUERY: ("params",),
    Kind.RUN: ("the context of the run",),
    Kind.RESUME: ("the context of the run", "the state", "the decision"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator says of a function; `name` is a subject, or that of a command or query."""

    kind: Kind
    name: str
    every_replica: bool = False
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Handler:
    """A function of an agent and what it handles."""

    mark: Mark
    function: Callable[..., Any]


def on(subject: str, *, every_replica: bool = False, concurrency: int = 1) -> Callable[[F], F]:
    """Handle each message on `subject` (wildcards `*` and `>`), given as a `Message`.

    Replicas share the messages, each goes to one of them; with `every_replica` all of them get all. Messages are
    handled one by one, in order; with a higher `concurrency` that many at a time.
    """
    if not subject or any(c.isspace() for c in subject) or "" in subject.split("."):
        raise InvalidRequest(f"cannot listen on {subject!r}", "A subject is words joined by dots: logs.sshd, logs.>")
    if concurrency < 1:
        raise InvalidRequest(f"cannot listen on {subject!r} with a concurrency of {concurrency}", "It is at least 1.")
    return _marking(Mark(Kind.MESSAGE, subject, every_replica, concurrency))


def command(name: str) -> Callable[[F], F]:
    """Answer the command `name`; the function is given its params, a dict. Every replica hears it."""
    return _marking(Mark(Kind.COMMAND, name))


def query(name: str) -> Callable[[F], F]:
    """Answer the query `name`; the function is given its params, a dict. One replica hears it."""
    return _marking(Mark(Kind.QUERY, name))


def run(function: F) -> F:
    """Handle runs; the function is given a `RunContext` and returns the answer: text, a dict, or a confirmation."""
    return _marking(Mark(Kind.RUN, "run"))(function)


def resume(name: str) -> Callable[[F], F]:
    """Go on with a run whose confirmation was decided; given are a `RunContext`, the state kept, and the `Decision`."""
    return _marking(Mark(Kind.RESUME, name))


def _marking(mark: Mark) -> Callable[[F], F]:
    def marked(function: F) -> F:
        function.__dict__.setdefault(_MARKS, []).append(mark)
        return function

    return marked


def handlers_of(agent: "Agent") -> list[Handler]:
    """Collect what the agent handles: marked methods, and functions registered on it. Raises `InvalidRequest`."""
    names = {name: None for kind in reversed(type(agent).__mro__) for name in vars(kind)}
    methods = [getattr(agent, name) for name in names if hasattr(getattr(type(agent), name, None), _MARKS)]
    found = [
        Handler(mark, function) for function in (*methods, *agent.registered) for mark in getattr(function, _MARKS)
    ]
    for handler in found:
        _check(handler)
    answers = [(handler.mark.kind, handler.mark.name) for handler in found if handler.mark.kind is not Kind.MESSAGE]
    for kind, name in answers:
        if answers.count((kind, name)) > 1:
            raise InvalidRequest(f"cannot have two functions for the {kind} {name!r}", "Rename one of them.")
    return found


def _check(handler: Handler) -> None:
    mark, name = handler.mark, handler.mark.name
    reserved = {Kind.COMMAND: COMMANDS, Kind.QUERY: QUERIES}.get(mark.kind, frozenset())
    if name in reserved:
        raise InvalidRequest(f"cannot define the {mark.kind} {name!r}: every agent has it already", "Rename yours.")
    try:
        inspect.signature(handler.function).bind(*_GIVEN[mark.kind])
    except TypeError as error:
        raise InvalidRequest(
            f"cannot use {handler.function.__qualname__} for the {mark.kind} {name!r}: {error}",
            f"It is called with {', '.join(_GIVEN[mark.kind])}.",
        ) from error


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a hook or handler of the author's: a coroutine on the loop, anything else in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await asyncio.to_thread(function, *arguments)
    return await result if inspect.isawaitable(result) else result
