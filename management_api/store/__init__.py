"""The API's own tables: what it must remember of its callers."""

from management_api.store.store import ApiStore, KeyRow

__all__ = ["ApiStore", "KeyRow"]
