"""The manager's own tables."""
