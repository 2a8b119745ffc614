"""Open Process Manager for Agent Systems: what agent authors and callers import."""

__version__ = "0.1.0"
