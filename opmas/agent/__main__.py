"""`python -m opmas.agent`: the runtime in an interpreter of its own, for agents that cannot be forked."""

import os
import sys

from opmas.agent.runtime import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # As after a fork: a thread that a handler left behind must not keep a drained agent alive.
    os._exit(code)
