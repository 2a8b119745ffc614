"""Who calls, what they may do, and what exists for them."""

from management_api.auth.principal import Principal, TheCaller, requires

__all__ = ["Principal", "TheCaller", "requires"]
