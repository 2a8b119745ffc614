"""The verb `completion`: the script that lets a shell complete verbs and their flags."""

import sys
from typing import Literal

from opmas.cli import paper

_WAYS = {
    "bash": "opmas completion bash > ~/.local/share/bash-completion/completions/opmas",
    "zsh": "opmas completion zsh > ~/.zfunc/_opmas   (with ~/.zfunc in fpath before compinit)",
    "fish": "opmas completion fish > ~/.config/fish/completions/opmas.fish",
}


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the completion script of a shell.

    Install it with one of these, then open a new shell:
    opmas completion bash > ~/.local/share/bash-completion/completions/opmas;
    opmas completion zsh > ~/.zfunc/_opmas (with ~/.zfunc in fpath before compinit);
    opmas completion fish > ~/.config/fish/completions/opmas.fish

    Args:
        shell: bash, zsh or fish
    """
    from opmas.cli.app import make_app  # noqa: PLC0415 - it names us

    paper.line(make_app().generate_completion(prog_name="opmas", shell=shell))
    if sys.stdout.isatty():
        paper.note(f"install it: {_WAYS[shell]}")
