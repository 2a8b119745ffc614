"""Routes of sessions: runs that share a conversation. Their messages are those of their runs."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import Response as HttpResponse
from pydantic import BaseModel, ConfigDict, Field

from management_api import run_examples as examples
from management_api.agents import TheFleet, checked_id
from management_api.auth import TheCaller, requires
from management_api.invocations import TheRuns
from management_api.openapi import Answers, answers
from management_api.run_views import markdown, session_view, shown, turn_view
from management_api.runs.visibility import scope_of, speaks_for
from management_api.store.rows import SessionFilter, SessionRow
from management_api.tenancy import require_agent
from opmas.wire.errors import SessionNotFound
from opmas.wire.invocation import NewSession, SessionChange, SessionDetail, SessionList, SessionMessages, SessionView
from opmas.wire.views import AgentView

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])

_READ = [requires("runs:read")]
_WRITE = [requires("runs:write")]

_MARKDOWN = "text/markdown"
# What may stand in the name of a file that a browser saves.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


_EXPORTED: Answers = answers(404, example=examples.SESSION_DETAIL)
_EXPORTED[200]["content"][_MARKDOWN] = {"schema": {"type": "string"}}


class SessionBeginning(NewSession):
    """A session to begin; without a `sessionId` it gets one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"agentId": "echo", "title": "Greetings"}]})


class SessionRenaming(SessionChange):
    """A session's new title."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Greetings"}]})


class SessionsOf(BaseModel):
    """Which sessions; what is left out may be anything."""

    agent: str | None = Field(default=None, max_length=63)
    user: str | None = Field(default=None, max_length=256)
    limit: int = Field(default=50, ge=1, le=1000)
    offset: int = Field(default=0, ge=0, le=1_000_000_000)


@router.get("", response_model=SessionList, dependencies=_READ, responses=answers(example=examples.SESSIONS))
async def list_sessions(runs: TheRuns, caller: TheCaller, wanted: Annotated[SessionsOf, Query()]) -> HttpResponse:
    """The sessions that match and that the caller may see, the most recently used first."""
    workspace, user = scope_of(caller)
    if user is not None and wanted.user not in {None, user}:
        return shown(SessionList(sessions=(), total=0))
    rows, total = await runs.ledger.sessions(
        SessionFilter(
            workspace=workspace,
            user_id=user or wanted.user,
            agent_id=wanted.agent,
            limit=wanted.limit,
            offset=wanted.offset,
        )
    )
    return shown(SessionList(sessions=tuple(map(session_view, rows)), total=total))


@router.post(
    "",
    status_code=201,
    response_model=SessionView,
    dependencies=_WRITE,
    responses=answers(404, 413, example=examples.SESSION, success=201),
)
async def create_session(
    runs: TheRuns, fleet: TheFleet, caller: TheCaller, body: Annotated[SessionBeginning, Body()]
) -> HttpResponse:
    """Begin a session before its first run, though a run without one begins its own.

    An id that is taken by another agent or user is not given: the answer says which it became.
    """
    await require_agent(fleet, caller, checked_id(body.agent_id))
    await fleet.query("get", AgentView, body.agent_id)  # those who see everything were let pass unasked
    row = await runs.ledger.create_session(
        workspace=caller.workspace,
        agent_id=body.agent_id,
        user_id=speaks_for(caller, body.user_id),
        title=body.title,
        session_id=body.session_id,
    )
    return shown(session_view(row), 201)


async def owned(runs: TheRuns, caller: TheCaller, session_id: str) -> SessionRow:
    """Find a session of the caller's workspace; raises `SessionNotFound` for those of others."""
    row = await runs.ledger.session(caller.workspace, session_id)
    _, user = scope_of(caller)
    if row is None or user not in {None, row.user_id}:
        raise SessionNotFound(
            f"there is no session {session_id[:80]!r} in workspace {caller.workspace!r}",
            "GET /api/v1/sessions lists them; x-workspace-id names another workspace",
        )
    return row


TheSession = Annotated[SessionRow, Depends(owned)]


async def detailed(runs: TheRuns, row: TheSession) -> SessionDetail:
    """Read a session with what was said in it."""
    messages = tuple(map(turn_view, await runs.ledger.session_messages(row.workspace, row.id)))
    return SessionDetail(**session_view(row).model_dump(by_alias=False), messages=messages)


TheDetail = Annotated[SessionDetail, Depends(detailed)]


@router.patch(
    "/{session_id:path}",
    response_model=SessionView,
    dependencies=_WRITE,
    responses=answers(404, 413, example=examples.SESSION),
)
async def rename_session(runs: TheRuns, session: TheSession, body: Annotated[SessionRenaming, Body()]) -> HttpResponse:
    """Give a session another title."""
    return shown(session_view(await runs.ledger.rename_session(session.workspace, session.id, body.title)))


@router.delete("/{session_id:path}", status_code=204, dependencies=_WRITE, responses=answers(404, 409))
async def delete_session(runs: TheRuns, session: TheSession) -> None:
    """Delete a session with all its runs; 409 while one of them is under way."""
    await runs.delete_session(session.workspace, session.id)


@router.get(
    "/{session_id:path}/messages",
    response_model=SessionMessages,
    dependencies=_READ,
    responses=answers(404, example=examples.MESSAGES),
)
async def list_session_messages(detail: TheDetail) -> HttpResponse:
    """What was said in a session, oldest first."""
    return shown(SessionMessages(messages=detail.messages, total=len(detail.messages)))


@router.get(
    "/{session_id:path}/export",
    response_model=SessionDetail,
    dependencies=_READ,
    responses=_EXPORTED,
)
async def export_session(detail: TheDetail, format: Literal["json", "markdown"] = "json") -> HttpResponse:  # noqa: A002
    """A session as a file to keep: JSON, or Markdown for people."""
    name, headers = _UNFIT.sub("-", detail.session_id), {"X-Content-Type-Options": "nosniff"}
    if format == "markdown":
        headers["Content-Disposition"] = f'attachment; filename="session-{name}.md"'
        return HttpResponse(markdown(detail), 200, headers, _MARKDOWN)
    headers["Content-Disposition"] = f'attachment; filename="session-{name}.json"'
    return shown(detail, 200, headers)


# The last: an id may have slashes.
@router.get(
    "/{session_id:path}",
    response_model=SessionDetail,
    dependencies=_READ,
    responses=answers(404, example=examples.SESSION_DETAIL),
)
async def get_session(detail: TheDetail) -> HttpResponse:
    """One session with what was said in it, oldest first."""
    return shown(detail)
