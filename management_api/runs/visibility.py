"""Whose runs a caller sees: those of the workspace, and people without a role over others only their own."""

from management_api.auth.principal import Principal
from management_api.store.rows import RunRow

_OVER_OTHERS = frozenset({"operator", "admin"})


def is_confined(caller: Principal) -> bool:
    """Say whether the caller is one person among others; API keys are services that speak for many."""
    return caller.is_person and caller.roles.isdisjoint(_OVER_OTHERS)


def scope_of(caller: Principal) -> tuple[str | None, str | None]:
    """Return the workspace and the user whose runs, sessions and files the caller sees; None means any."""
    return None if caller.everywhere else caller.workspace, caller.subject if is_confined(caller) else None


def sees(caller: Principal, run: RunRow) -> bool:
    """Say whether `run` exists for the caller."""
    workspace, user = scope_of(caller)
    return workspace in {None, run.workspace} and user in {None, run.user_id}


def speaks_for(caller: Principal, named: str | None) -> str:
    """Return the user of what the caller makes, who may have `named` one."""
    return caller.subject if is_confined(caller) else named or caller.subject
