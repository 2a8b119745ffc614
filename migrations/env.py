"""What alembic runs around the revisions: on the connection that `migrations.upgrade` hands over, never its own."""

from alembic import context

attributes = context.config.attributes

context.configure(connection=attributes["connection"], version_table=attributes["version_table"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
