"""The verb `run`: ask an agent once, and print its answer."""

import json as encoding
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.answer import Answer, calling, conclude
from opmas.cli.connection import Document
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import Json

if TYPE_CHECKING:  # the import takes 0.3 s, which --help does not have
    from opmas.client import BlockingClient
    from opmas.wire.invocation import AgentRunResponse

_STREAM = Annotated[bool, Parameter(negative=())]


def run(  # noqa: PLR0913 - each is a flag
    agent: str,
    message: Annotated[str, Parameter(allow_leading_hyphen=True)],  # or "-" would be taken for an option
    /,
    *,
    stream: _STREAM = False,
    session: str | None = None,
    file: Annotated[list[Path] | None, Parameter(negative=())] = None,
    param: Annotated[list[str] | None, Parameter(negative=())] = None,
    user: str | None = None,
    wait: float | None = None,
    no_wait: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> int:
    """Ask an agent, and print its answer. Ctrl-C cancels the run.

    What it wants confirmed is asked at a terminal; elsewhere the command exits with 8 and says how to decide.

    Args:
        agent: the agent's id
        message: what to ask; - reads it from stdin
        stream: print the answer as it comes; with --json, one event a line
        session: go on with this session; without it a new one begins
        file: give the agent a file; may be repeated
        param: a parameter, key=value, JSON or text; may be repeated
        user: the user whom this is for, if you speak for many
        wait: how many seconds it may take; the run then goes on without you
        no_wait: print the run's id once it is accepted
        json: one JSON document: the run, as the API answers it
    """
    if re.fullmatch(r"--?[a-z][\w-]*", message):
        raise Failure(f'Unknown option: "{message}".', "see `opmas run --help`", "usage")
    text = sys.stdin.read() if message == "-" else message
    if not text.strip():
        raise Failure("cannot run: there is no message", f'opmas run {agent} "Hello!"', "usage")
    if wait is not None and not 0 <= wait < float("inf"):
        raise Failure(f"cannot wait {wait:g} s", "--wait takes a number of seconds", "usage")
    given = parameters(param or [])
    with calling("run", agent) as client:
        files = [client.upload(path).file_id for path in file or []]
        begun = client.invoke(agent, text, params=given, session_id=session, files=files, user_id=user or "")
        if no_wait:
            paper.document(_shown(begun)) if json else paper.line(begun.run_id)
            return Exit.OK
        return _answered(client, begun, stream=stream, wait=wait, json=json)


def _answered(
    client: "BlockingClient", begun: "AgentRunResponse", *, stream: bool, wait: float | None, json: bool
) -> int:
    from opmas.wire.errors import DeadlineExceeded  # noqa: PLC0415 - as above

    answer = Answer(client, begun, quiet=json or not stream, json=json and stream, within_s=wait)
    try:
        ended = answer.follow()
    except DeadlineExceeded as error:
        hint = f"it goes on: `opmas runs show {begun.run_id}` shows it, `opmas runs cancel {begun.run_id}` ends it"
        raise Failure(f"cannot wait longer: no answer in {wait:g} s", hint, "deadline_exceeded") from error
    if not json:
        code = conclude(ended, content=not stream)
        _footnote(ended)
        return code
    if not stream:
        paper.document(_shown(ended))
    if ended.status.value == "failed":
        paper.note(f"opmas: {paper.prose(ended.error or 'the run has failed')}")
        return Exit.FAILED
    return Exit.OK if ended.status.value == "completed" else Exit.WAITS


def _shown(run: "AgentRunResponse") -> Document:
    return run.model_dump(mode="json", exclude_none=True)


def _footnote(run: "AgentRunResponse") -> None:
    """Tell at a terminal what to go on with."""
    if not sys.stderr.isatty():
        return
    meta = run.metadata
    took = f"{meta.duration_ms / 1000:.1f} s" if meta and meta.duration_ms is not None else ""
    tokens = f"{meta.tokens_used} tokens" if meta and meta.tokens_used else ""
    paper.aside(", ".join(filter(None, [f"run {run.run_id}", f"session {run.session_id}", took, tokens])))


def parameters(words: list[str]) -> Document:
    """Read key=value words; a value is JSON if it reads as such, else text. Raises `Failure`."""
    given: Document = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise Failure(f"cannot run: '{word}' is no parameter", "a parameter has the form key=value", "usage")
        try:
            given[key] = encoding.loads(value)
        except ValueError:
            given[key] = value
    return given
