"""The client library: what a caller of the management API imports."""
