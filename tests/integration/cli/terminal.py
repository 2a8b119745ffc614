"""A command at a terminal: what it shows can be waited for, and keys can be typed."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.cli.conftest import OPMAS, Shell

_PATIENCE_S = 30.0


class Terminal:
    """One process and the screen that it writes to."""

    def __init__(self, process: "subprocess.Popen[bytes]", screen: int) -> None:
        self._process = process
        self._screen = screen
        self.shown = ""
        self._seen = 0

    def expect(self, text: str, patience_s: float = _PATIENCE_S) -> None:
        """Wait until `text` is shown, after what was expected before."""
        deadline = time.monotonic() + patience_s
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self.shown}"
            if select.select([self._screen], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._screen, 65_536).decode(errors="replace")
                except OSError as error:  # the other side is closed
                    raise AssertionError(f"it ended without {text!r}: {self.shown}") from error
        self._seen = self.shown.index(text, self._seen) + len(text)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._screen, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def interrupt_prompt(self, prompt: str) -> None:
        """Press Ctrl-C at a prompt until there is a new one: readline misses what comes before it begins to wait."""
        for patience_s in (1.0, 2.0, _PATIENCE_S):
            self.interrupt()
            try:
                return self.expect(prompt, patience_s)
            except AssertionError as error:
                missed = error
        raise missed

    def leave(self) -> None:
        """Press Ctrl-D."""
        os.write(self._screen, b"\x04")

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(_PATIENCE_S)


@contextmanager
def terminal(shell: Shell, *words: str) -> Iterator[Terminal]:
    """Type a command at a terminal of its own."""
    screen, inner = pty.openpty()
    env = shell.env | {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}
    process = subprocess.Popen([OPMAS, *words], env=env, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
