"""How an agent takes runs, as `agent.yaml` says it: `run_limits`, `models`, `agno_store`.

What the limits and policies mean while a run goes on is the API's affair, which is told of them by a `RunSpec`.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from opmas.wire.manifest.quantities import PositiveDuration, whole, whole_or_none
from opmas.wire.manifest.sections import Section

# Beyond these it is a slip of the keyboard: no model has such a context, no queue empties in a lifetime.
_MOST_WAITING, _MOST_TOKENS, _MOST_CALLS = 1_000_000, 1_000_000_000, 1_000_000


class AgnoStore(StrEnum):
    """Where Agno keeps sessions and memories of its own."""

    NONE = "none"
    SQLITE = "sqlite"


class RunLimitsSpec(Section):
    """How long a run may wait and work, and what it may use before it is stopped."""

    queue: Annotated[int, whole(1, _MOST_WAITING)] = 1000
    """Runs that may wait for an instance; the next is refused."""
    start_within: PositiveDuration = 3600.0
    """A run that has not started by then expires."""
    confirm_within: PositiveDuration = 86_400.0
    """A run whose confirmation nobody decided by then expires."""
    wall_time: PositiveDuration = 600.0
    """How long the handler may take, without the time a human takes to decide."""
    tokens: Annotated[int | None, whole_or_none(1, _MOST_TOKENS)] = None
    """Tokens it may use, or none for any number."""
    tool_calls: Annotated[int | None, whole_or_none(1, _MOST_CALLS)] = None
    """Tools it may call, or none for any number."""


ModelName = Annotated[str, Field(min_length=1, max_length=128)]
