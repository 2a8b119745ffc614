"""`opmas up` and `opmas down`: NATS, a manager and an API on this machine, kept alive as long as `up` runs.

`up` may be killed: its servers die with it, nats-server and the agents do not, and the next `up` takes them over.
"""

import asyncio
from typing import Annotated

from cyclopts import Parameter


def up(
    *, quiet: Annotated[bool, Parameter(negative=())] = False, reload: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Start NATS, a manager and the API here and keep them running, until Ctrl-C or `opmas down`.

    Args:
        quiet: print no banner
        reload: restart an agent when files of its package change; agents only, not OPMAS itself
    """
    from opmas.cli.up_node import Node  # noqa: PLC0415  # the servers' settings and libraries: half a second

    return asyncio.run(Node.of_environment(quiet=quiet, reload=reload).run())


def down(*, timeout: float = 60.0) -> int:
    """Stop what `opmas up` started here: API, agents, manager, nats-server.

    Args:
        timeout: seconds until the rest is killed
    """
    from opmas.cli.up_down import bring_down  # noqa: PLC0415  # as above

    return asyncio.run(bring_down(timeout))
