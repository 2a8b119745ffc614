"""The schema of both databases: one folder of alembic revisions per server, each with a version table of its own.

The servers may share a database or not; neither sees the other's revisions. A new one is a file in the server's folder
whose `down_revision` is the newest there.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


class UnknownRevision(Exception):
    """The database is at a revision that this version does not have."""


def upgrade(connection: Connection, branch: str) -> None:
    """Bring the tables of `branch` to the newest revision, inside the connection's transaction; the caller commits.

    Raises `UnknownRevision` if the database is ahead of this version.
    """
    config = configuration(connection, branch)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    context = MigrationContext.configure(connection, opts={"version_table": version_table(branch)})
    for revision in context.get_current_heads():
        if revision not in known:
            raise UnknownRevision(f"its schema is at revision {revision}, which this version does not know")
    command.upgrade(config, f"{branch}@head")


def configuration(connection: Connection, branch: str) -> Config:
    """Return alembic's configuration for one branch on an open connection."""
    config = Config(attributes={"connection": connection, "version_table": version_table(branch)})
    # Files, not a module path: alembic reads them from a wheel's folder as from a checkout.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(FOLDER / branch).replace("%", "%%"))
    return config


def version_table(branch: str) -> str:
    """Name the table that holds the branch's revision."""
    return f"alembic_version_{branch}"
