"""The HTTP front. Private."""
