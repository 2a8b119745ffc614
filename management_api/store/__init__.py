"""The API's own tables: what it must remember of its callers and of runs."""

from management_api.store.ledger import Ledger
from management_api.store.store import ApiStore, KeyRow

__all__ = ["ApiStore", "KeyRow", "Ledger"]
