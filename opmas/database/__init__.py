"""The databases of both servers: connections, grouped writes, migrations, deadlines, and errors that say what to do."""

from opmas.database.database import Database
from opmas.database.migrate import Branch
from opmas.database.writer import Change

__all__ = ["Branch", "Change", "Database"]
