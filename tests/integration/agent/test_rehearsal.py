"""The life that a template lives before it forks any instance."""

import subprocess
import sys
from pathlib import Path


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_rehearsal_lives_to_its_end_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run(
        "import os, signal, sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from opmas.agent.rehearsal import rehearse\n"
        "def left():\n"
        "    return (sorted(os.listdir('/proc/self/fd')), os.listdir('/proc/self/task'), list(sys.path),\n"
        "        [name for name in sys.modules if name.startswith('opmas_agent_')], dict(os.environ),\n"
        "        [signal.getsignal(number) for number in signal.valid_signals()],\n"
        "        os.listdir(tempfile.gettempdir()))\n"
        "before = left()\n"
        "rehearse()\n"
        "assert left() == before, (left(), before)"
    )


def test_a_rehearsal_that_fails_costs_memory_only() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from opmas.agent.rehearsal import rehearse; rehearse('raise OSError(28, \"no space\")'); print('on')",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "on\n"
    assert "cannot rehearse: instances will take more memory" in done.stderr
