"""The run service: runs are accepted, given out, recorded, followed and brought to an end here."""

from management_api.runs.service import Runs
from management_api.runs.timings import Timings
from management_api.runs.visibility import scope_of, speaks_for

__all__ = ["Runs", "Timings", "scope_of", "speaks_for"]
