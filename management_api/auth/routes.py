"""Routes of API keys, under `/api/v1/tokens`: make one (shown this once), list them, revoke one.

Nobody hands on more than they have: a key's scopes are at most its maker's, and who acts for a workspace makes, sees
and revokes keys of that workspace only.
"""

from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Body, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from management_api.auth.keys import new_key, principal_of
from management_api.auth.principal import Principal, TheCaller, requires
from management_api.auth.scopes import Role, Scope
from management_api.auth.settings import WORKSPACE_PATTERN
from management_api.openapi import answers
from management_api.store import ApiStore, KeyRow
from opmas.wire.errors import InvalidRequest, OpmasError, PermissionDenied
from opmas.wire.messages import now

logger = structlog.get_logger(__name__)

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"], dependencies=[requires("tokens:write")])


class KeyNotFound(OpmasError):
    """There is no such API key."""

    code, status = "not_found", 404


class NewKey(BaseModel):
    """The API key to make: what it may do by `role`, and by `scopes` besides; for ever, if `expires_at` is missing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "ci", "role": "operator", "workspace": "acme"}]},
    )

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role | None = None
    scopes: Annotated[tuple[Scope, ...], Field(max_length=50)] = ()
    workspace: Annotated[str, Field(pattern=WORKSPACE_PATTERN)] | None = None
    expires_at: AwareDatetime | None = None


class Key(BaseModel):
    """An API key, without the key. An empty `workspace` means all of them."""

    id: str
    name: str
    role: str
    scopes: tuple[str, ...]
    workspace: str
    created_by: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class MadeKey(Key):
    """A new API key; `token` is shown here and never again."""

    token: str


class Keys(BaseModel):
    """API keys, the newest first."""

    tokens: tuple[Key, ...]
    total: int


_EXAMPLE = {
    "id": "k3f2a91c04b7d",
    "name": "ci",
    "role": "operator",
    "scopes": (),
    "workspace": "acme",
    "created_by": "admin",
    "created_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "expires_at": datetime(2026, 4, 30, 12, tzinfo=UTC),
    "last_used_at": None,
    "revoked_at": None,
}
_MADE = MadeKey.model_validate(_EXAMPLE | {"token": "opk_…"})
_LISTED = Keys(tokens=(Key.model_validate(_EXAMPLE),), total=1)


@router.post("", status_code=201, responses=answers(413, example=_MADE, success=201))
async def create_token(request: Request, caller: TheCaller, body: Annotated[NewKey, Body()]) -> MadeKey:
    """Make an API key."""
    if body.role is None and not body.scopes:
        raise InvalidRequest("cannot make a key that may do nothing", "give a role, or scopes")
    if body.expires_at is not None and body.expires_at <= now():
        raise InvalidRequest("cannot make a key that has expired already", "give an expires_at in the future")
    key_id, token, digest = new_key()
    row = KeyRow(
        id=key_id,
        hash=digest,
        name=body.name,
        roles=[body.role] if body.role else [],
        scopes=sorted(body.scopes),
        workspace=_workspace(request, caller, body),
        created_by=caller.subject,
        expires_at=body.expires_at,
    )
    if beyond := principal_of(row).scopes - caller.scopes:
        raise PermissionDenied(
            f"cannot hand on what {caller.subject!r} does not have: {', '.join(sorted(beyond))}",
            "give the key a lesser role, or fewer scopes",
        )
    await _store(request).add_key(row)
    logger.info("API key made", key=row.id, role=body.role, workspace=row.workspace, by=caller.title)
    return MadeKey(**_shown(row).model_dump(), token=token)


@router.get("", responses=answers(example=_LISTED))
async def list_tokens(request: Request, caller: TheCaller) -> Keys:
    """List the API keys, those that have expired or were revoked too."""
    rows = await _store(request).keys(None if caller.everywhere else caller.workspace)
    return Keys(tokens=tuple(map(_shown, rows)), total=len(rows))


@router.delete("/{token_id}", status_code=204, responses=answers(404))
async def revoke_token(request: Request, caller: TheCaller, token_id: Annotated[str, Path(max_length=64)]) -> None:
    """Revoke an API key; its next request is refused."""
    known = await _store(request).revoke_key(token_id, None if caller.everywhere else caller.workspace)
    if not known:
        raise KeyNotFound(f"cannot revoke {token_id!r}: there is no such API key", "`opmas token ls` lists them")
    logger.info("API key revoked", key=token_id, by=caller.title)


def _workspace(request: Request, caller: Principal, body: NewKey) -> str:
    """Settle a new key's workspace: the one named, else the maker's, else the default; all only for an admin key."""
    if not caller.everywhere:
        if body.workspace not in {None, caller.workspace}:
            raise PermissionDenied(
                f"cannot make a key for workspace {body.workspace!r}: {caller.subject!r} acts for {caller.workspace!r}",
                "leave the workspace out",
            )
        return caller.workspace
    default = "" if body.role == "admin" else request.app.state.settings.auth.workspace
    return default if body.workspace is None else body.workspace


def _shown(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        role=row.roles[0] if row.roles else "",
        scopes=tuple(row.scopes),
        workspace=row.workspace,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def _store(request: Request) -> ApiStore:
    store: ApiStore = request.app.state.store
    return store
