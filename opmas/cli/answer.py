"""An answer under way: printed as it comes, its confirmations put to whoever sits at the terminal, ended by Ctrl-C.

Streams need `OpmasClient`, whose import takes 0.3 s: beside a model's first word that is little.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opmas.cli import home, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.decision import ask, waiting, waits_for
from opmas.cli.failure import Exit, Failure

if TYPE_CHECKING:  # the import is dear, see above
    from stamina.instrumentation import RetryDetails

    from opmas.client import BlockingClient, Confirmation, StreamedEvent
    from opmas.wire.invocation import AgentRunResponse

# An argument or a result is shown so far: enough to know it by.
_SHOWN = 200


@contextmanager
def calling(act: str, agent: str = "") -> Iterator["BlockingClient"]:
    """Open a client. What it raises becomes a `Failure`, with the nearest id when there is no such agent."""
    from stamina.instrumentation import set_on_retry_hooks  # noqa: PLC0415 - as the module says

    from opmas.client import BlockingClient  # noqa: PLC0415 - as the module says
    from opmas.wire.errors import OpmasError  # noqa: PLC0415 - as the module says

    set_on_retry_hooks([_tell_retry])
    try:
        with BlockingClient(home.api_url(), home.token()) as client:
            yield client
    except OpmasError as error:
        if agent and error.code == "agent_not_found":
            raise no_such_agent(act, agent) from error
        raise Failure(error.message, error.hint, error.code) from error


def _tell_retry(details: "RetryDetails") -> None:
    paper.aside(f"{details.caused_by}; trying again in {details.wait_for:g} s")


def at_terminal() -> bool:
    """Whether a human can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@dataclass
class Answer:
    """One run's events, told to people as they come, or (`quiet`) not at all."""

    client: "BlockingClient"
    run: "AgentRunResponse"
    quiet: bool = False
    json: bool = False
    """Print each event as a document on a line."""
    within_s: float | None = None
    _last: "StreamedEvent | None" = field(default=None, init=False)
    _inside: bool = field(default=False, init=False)
    """Whether the line on the terminal has begun."""

    def follow(self) -> "AgentRunResponse":
        """Return the run once it has ended, or waits for a human who is not here. Ctrl-C cancels it, and goes on."""
        self._forewarn()
        try:
            for event in self.client.stream(self.run.agent_id, self.run.run_id, within_s=self.within_s):
                self._last = event
                if self._tell(event):
                    break
        except KeyboardInterrupt:
            self._break_line()
            self.client.cancel(self.run.agent_id, self.run.run_id)
            paper.note(f"cancelled run {self.run.run_id}")
            raise
        self._break_line()
        last = self._last
        return (last and last.run) or self.client.get_run(self.run.agent_id, self.run.run_id)

    def _forewarn(self) -> None:
        """Say that nothing will come for now when the agent does not run: a run waits for it, up to an hour."""
        try:
            agent = get(agent_path(self.run.agent_id))
        except Failure:  # who may ask agents need not see them
            return
        if agent["status"] != "running":
            why = f" ({paper.plain(agent['reason'])})" if agent["reason"] else ""
            paper.note(f"{agent['id']} is in `{agent['status']}`{why}: the run waits for it; `opmas why {agent['id']}`")

    def _tell(self, event: "StreamedEvent") -> bool:
        """Show an event; say whether to leave, because nobody is here to decide."""
        if self.json:
            paper.compact(event.model_dump(mode="json", exclude_none=True))
            sys.stdout.flush()
        elif not self.quiet:
            self._show(event)
        if event.confirmation is None:
            return False
        if self.json or not at_terminal():
            return True
        self._break_line()
        return not self._decide(event.confirmation)

    def _show(self, event: "StreamedEvent") -> None:
        if event.content and not event.is_last:
            paper.piece(event.content)
            self._inside = not event.content.endswith("\n")
        elif event.tool is not None:
            self._aside(_tool(event.tool.model_dump()))
        elif event.progress is not None:
            self._aside(_progress(event.progress.model_dump()))

    def _aside(self, text: str) -> None:
        self._break_line()
        paper.aside(text)

    def _break_line(self) -> None:
        if self._inside:
            paper.line()
            sys.stdout.flush()
        self._inside = False

    def _decide(self, confirmation: "Confirmation") -> bool:
        """Pass on what the human says; says whether they said anything."""
        from opmas.wire.errors import ConfirmationDecided  # noqa: PLC0415 - as the module says

        try:
            confirmed, note, arguments = ask(confirmation.confirmation_details.model_dump(mode="json"))
        except EOFError:  # Ctrl-D: another time
            paper.line()
            return False
        try:
            self.client.confirm(
                self.run.agent_id,
                self.run.run_id,
                confirmation.confirmation_id,
                confirmed,
                note=note,
                arguments=arguments,
            )
        except ConfirmationDecided as error:
            paper.note(f"opmas: {error.message}")
        return True


def conclude(run: "AgentRunResponse", *, content: bool) -> int:
    """Print how a run has ended; `content` was not shown before. Raises `Failure` for one that has failed."""
    if run.status.value == "failed":
        reason = (run.data or {}).get("reason")
        why = run.error or f"the run has failed: {reason}"
        raise Failure(paper.prose(why), f"`opmas runs show {run.run_id}` shows more", "run_failed")
    if confirmation := waits_for(run.data):
        paper.note(waiting(run.run_id, confirmation))
        return Exit.WAITS
    if content and run.content:
        paper.line(paper.prose(run.content))
    if run.data:
        paper.document(run.data)
    return Exit.OK


def _tool(call: Document) -> str:
    if not call["done"]:
        return f"  {call['name']} {_short(json.dumps(call['arguments'], ensure_ascii=False))}"
    said = f"failed: {call['error']}" if call["error"] else (call["result"] or "done")
    return f"  {call['name']}: {_short(said)}"


def _progress(given: Document) -> str:
    total = f" of {given['total']:g}" if given["total"] is not None else ""
    return f"  {given['done']:g}{total} {given['message']}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
