"""The schema of both databases, one alembic branch per server."""
