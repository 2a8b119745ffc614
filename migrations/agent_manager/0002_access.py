"""Who may use an agent, and which of its fields an operator has given."""

import sqlalchemy as sa
from alembic import op

revision = "am0002"
down_revision = "am0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No batch: it would copy the table on SQLite, and with the old one all instances would go.
    op.add_column("agents", sa.Column("access", sa.Text, nullable=False, server_default="{}"))
    op.add_column("agents", sa.Column("given", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("agents", "given")
    op.drop_column("agents", "access")
