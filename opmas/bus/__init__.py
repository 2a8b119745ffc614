"""The connection to NATS, one client class for the whole project."""
