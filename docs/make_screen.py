"""Draw docs/screen.svg, the picture in the README, from what the commands really print on a running node.

`python docs/make_screen.py`, with OPMAS_HOME of the node, inside the virtual environment.
"""

import os
import pty
import re
import shlex
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    "opmas ls",
    "opmas run echo 'hello, world'",
    "opmas run approval 'buy it' --param prNumber=PR-7 --param amount=25000",
    "opmas runs ls",
    "opmas logs --tail 3 host-metrics log-sentinel",
)
COLUMNS = 112
PICTURE = Path(__file__).with_name("screen.svg")
# The picture shall load nothing from elsewhere.
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def printed(command: str) -> str:
    """Run a command on a terminal of its own; return what it prints, colours included."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
    with subprocess.Popen(shlex.split(command), stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        chunks = []
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:  # a terminal says so when its other side is closed
            pass
        process.wait()
    os.close(ours)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def main() -> None:
    """Draw."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            console.print(Text.from_ansi(printed(command)))
    svg = console.export_svg(title="opmas")
    PICTURE.write_text(FONTS.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
