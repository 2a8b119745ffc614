"""An agent of the SDK that does nothing but beat, for fleets."""

from opmas.agent import Agent


class Quiet(Agent):
    """Waits."""
