"""The caller of a request, as the door found it, and `requires`, by which every route names the scope it asks for.

    @router.get("/nodes", dependencies=[requires("system:read")])
    async def list_nodes(...): ...

A route that needs the caller itself takes it as a parameter: `caller: TheCaller`. A test fails for a route that asks
for no scope and is not among `door.OPEN`.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer as BearerScheme
from fastapi.security.base import SecurityBase

from management_api.auth.scopes import Scope
from opmas.wire.errors import PermissionDenied
from opmas.wire.views import Access

_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")

acting: ContextVar[str] = ContextVar("management_api.auth.acting", default="")
"""Whose request is being handled, for the audit of what is commanded meanwhile; set by the door."""


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, for which workspace, and what they may do there.

    `key` names the credentials, for rate limits and `last_used`; it is no secret. With `everywhere` the caller is an
    administrator who has chosen no workspace and therefore sees them all. `is_person` tells people from services,
    which speak for many. `is_valid` says whether the credentials still hold: they were looked at when the request
    came, and a stream may outlive them.
    """

    subject: str
    workspace: str
    roles: frozenset[str]
    scopes: frozenset[Scope]
    key: str
    everywhere: bool = False
    limited: bool = True
    is_person: bool = False
    is_valid: Callable[[], bool] = field(default=_always, repr=False, compare=False)

    @property
    def title(self) -> str:
        """The caller's name for audits: `subject@workspace`, without what could not stand in a header."""
        name = self.subject if self.everywhere else f"{self.subject}@{self.workspace}"
        return _UNPRINTABLE.sub("?", name)[:200]

    @property
    def is_admin(self) -> bool:
        """Whether the caller administers the fleet, not just a workspace of it."""
        return "admin" in self.roles

    def sees(self, access: Access) -> bool:
        """Say whether an agent of this `access` exists for the caller; what it does not name is open to all."""
        if self.everywhere:
            return True
        workspace = not access.workspaces or self.workspace in access.workspaces
        return workspace and (self.is_admin or not access.roles or not self.roles.isdisjoint(access.roles))


class _Required(SecurityBase):
    """Refuses callers without one scope; being a security scheme, it shows in the OpenAPI document."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.model = BearerScheme(description="The admin token, an API key (`opk_…`) or a JWT.")
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Principal:
        caller = caller_of(request)
        if self.scope not in caller.scopes:
            raise PermissionDenied(
                f"cannot do this: it takes the scope {self.scope}, which {caller.subject!r} does not have",
                "use a token of a role that has it; `opmas token create --help` lists the roles",
            )
        return caller


def requires(scope: Scope) -> Any:
    """Make the dependency that refuses callers without `scope` with 403, and returns the `Principal` of the others."""
    return Security(_Required(scope), scopes=[scope])


def scope_required(dependency: object) -> Scope | None:
    """Tell the scope that a route's dependency asks for, if it is one of ours."""
    return dependency.scope if isinstance(dependency, _Required) else None


def caller_of(request: Request) -> Principal:
    """Return the caller whom the door let in."""
    caller: Principal = request.state.caller
    return caller


async def _the_caller(request: Request) -> Principal:
    # A coroutine, like every dependency: FastAPI sends a plain function to a thread, which costs more than all it does.
    return caller_of(request)


TheCaller = Annotated[Principal, Depends(_the_caller)]
