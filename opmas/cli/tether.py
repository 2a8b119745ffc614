"""Run a server module that dies with the process that started it: `python -m opmas.cli.tether PARENT_PID MODULE`.

Done in the child, before the module is imported: a function between fork and exec could deadlock in a parent that has
threads, and the signal is bound to the thread that forks, which in `opmas up` is the main one.
"""

import os
import runpy
import signal
import sys

from agent_manager.process.confine import PR_SET_PDEATHSIG, prctl


def main() -> None:
    """Tie this process to its parent and become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    # SIGKILL: whoever supervises was killed, not stopped. Agents live on, the next `opmas up` adopts them.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
