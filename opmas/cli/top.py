"""The verb `top`: the list of agents on a full screen, renewed every second, with keys that command them."""

import sys

from opmas.cli.failure import Failure


def top() -> None:
    """Watch agents on a full screen; keys start, stop and restart them and show what they print."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Failure("cannot draw: this is not a terminal", "`opmas ls` lists agents into a pipe", "usage")
    from opmas.cli.screen import FleetScreen  # noqa: PLC0415 - textual costs a second

    FleetScreen().run()
