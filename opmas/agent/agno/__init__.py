"""The bridge to Agno: an Agno agent, team or workflow as an agent of ours.

Agno is imported here and beside it only (the offline model, the resolver of models), and only when called: reading
`PRELOAD` must cost nothing, also where Agno is not installed.
"""

from opmas.agent import PRELOAD as _RUNTIME
from opmas.agent.agno.agent import AgnoAgent
from opmas.agent.agno.warming import warm_up

# What a template for `runtime: agno` imports. Importing these in the fork costs 0.3 s and 45 MB per instance.
PRELOAD: tuple[str, ...] = (
    *_RUNTIME,
    "agno.agent",
    "agno.team",
    "agno.run.agent",
    "agno.utils.serialize",
    "opmas.agent.offline",
    "opmas.agent.models",
    "opmas.agent.agno.confirmation",
    "opmas.agent.agno.media",
    "opmas.agent.agno.relay",
)

__all__ = ["PRELOAD", "AgnoAgent", "warm_up"]
