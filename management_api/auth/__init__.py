"""Who calls, and what they may do."""

from management_api.auth.principal import Principal, TheCaller, requires

__all__ = ["Principal", "TheCaller", "requires"]
