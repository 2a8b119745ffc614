"""The daemon: discovers, launches, routes, watches and persists. Private."""
