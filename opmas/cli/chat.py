"""The verb `chat`: a conversation with an agent, line by line, its answers as they come."""

import contextlib
import sys
from typing import TYPE_CHECKING

from opmas.cli import connection, paper
from opmas.cli.answer import Answer, at_terminal, calling, conclude
from opmas.cli.connection import agent_path, no_such_agent
from opmas.cli.failure import Exit, Failure

if TYPE_CHECKING:  # the import takes 0.3 s, which --help does not have
    from opmas.client import BlockingClient

_HELP = "/new begins another session, /session ID goes on with one, /quit leaves; Ctrl-C cancels an answer"


def chat(agent: str, /, *, session: str | None = None, user: str | None = None) -> int:
    """Talk with an agent. Ctrl-C cancels the answer under way, Ctrl-D leaves; /help lists what else there is.

    Lines come from stdin when it is no terminal; the command then exits with 1 if an answer failed.

    Args:
        agent: the agent's id
        session: go on with this session; without it a new one begins
        user: the user whom this is for, if you speak for many
    """
    try:
        connection.get(agent_path(agent))
    except Failure as failure:
        raise no_such_agent("chat with", agent) if failure.code == "agent_not_found" else failure from failure
    with calling("chat with", agent) as client:
        return Conversation(client, agent, session, user or "").hold()


class Conversation:
    """One human, one agent, and the session they are in."""

    def __init__(self, client: "BlockingClient", agent: str, session: str | None, user: str) -> None:
        self._client = client
        self._agent = agent
        self._session = session
        self._user = user
        self._code: int = Exit.OK

    def hold(self) -> int:
        """Go on until the human leaves."""
        if at_terminal():
            with contextlib.suppress(ImportError):  # without it there is no line editing, and that is all
                import readline  # noqa: F401, PLC0415 - it changes `input`
            paper.aside(f"{self._agent}: {_HELP}")
        while (line := _read()) is not None:
            if line.strip() and not self._take(line.strip()):
                break
        return Exit.OK if at_terminal() else self._code

    def _take(self, line: str) -> bool:
        """Do what a line says; says whether to go on."""
        word, _, rest = line.partition(" ")
        match word:
            case "/quit" | "/exit":
                return False
            case "/new":
                self._session = None
                paper.aside("the next line begins a new session")
            case "/session":
                self._session = rest.strip() or self._session
                paper.aside(f"session {self._session or '(the next line begins one)'}")
            case _ if word.startswith("/"):
                paper.aside(_HELP)
            case _:
                self._ask(line)
        return True

    def _ask(self, line: str) -> None:
        from opmas.wire.errors import OpmasError  # noqa: PLC0415 - as above

        try:
            begun = self._client.invoke(self._agent, line, session_id=self._session, user_id=self._user)
            self._session = begun.session_id or self._session
            self._code = max(self._code, conclude(Answer(self._client, begun).follow(), content=False))
        except KeyboardInterrupt:
            return
        except Failure as failure:
            self._fail(failure)
        except OpmasError as error:
            self._fail(Failure(error.message, error.hint, error.code))

    def _fail(self, failure: Failure) -> None:
        paper.note(f"opmas: {failure.message}" + (f"\n  hint: {failure.hint}" if failure.hint else ""))
        self._code = Exit.FAILED


def _read() -> str | None:
    """Read a line; None when there are no more."""
    if not at_terminal():
        return sys.stdin.readline() or None
    try:
        return input("> ")
    except EOFError:
        paper.line()
        return None
    except KeyboardInterrupt:
        paper.line()
        return ""
