"""Runs as an instance sees them: claimed, handled, reported in frames until all of it is on record."""
