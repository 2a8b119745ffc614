"""Routes of runs: invoke an agent, follow and cancel a run, decide what it waits for; lists and the audit.

What becomes of a run is the run service's business (`management_api.runs`); here stands how it is asked and shown.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response as HttpResponse
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool

from management_api import run_examples as examples
from management_api.agents import LastEventId, TheStreams, checked_id
from management_api.auth import TheCaller, requires
from management_api.manner import Invocation, InvocationRoute, Manner, manner_of
from management_api.openapi import Answers, answers, streamed
from management_api.run_stream import run_frames
from management_api.run_views import audit_entry, run_view, shown, summary
from management_api.runs import Runs
from management_api.runs.topic import is_settled
from management_api.runs.visibility import scope_of
from management_api.store.rows import RunFilter
from management_api.streams import position
from opmas.wire.invocation import AgentRunResponse, DecisionRequest, RunAudit, RunList, StreamEvent
from opmas.wire.runs import RunStatus

router = APIRouter(prefix="/api/v1", tags=["runs"])

_READ = [requires("runs:read")]
_WRITE = [requires("runs:write")]

_DECISION: dict[str, JsonValue] = {"confirmed": True, "note": "as discussed", "arguments": {"amount": 90}}


_LAST = "`end` or `error`"
_INVOKED: Answers = streamed(answers(404, 409, 413, example=examples.RUN), StreamEvent, _LAST)
_INVOKED[200]["model"] = AgentRunResponse
_INVOKED |= answers(example=examples.ACCEPTED, success=202)


class HumanDecision(DecisionRequest):
    """A human's yes or no; `arguments` replace those that were asked about."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DECISION]})

    confirmed: StrictBool
    """Nothing else is taken for a yes or a no."""


async def runs_of(request: Request) -> Runs:
    """Find the run service."""
    runs: Runs = request.app.state.runs
    return runs


TheRuns = Annotated[Runs, Depends(runs_of)]


# --- one run ---------------------------------------------------------------------------------------------------------


async def invoke_agent(
    agent_id: str, manner: Annotated[Manner, Depends(manner_of)], body: Annotated[Invocation, Body()]
) -> HttpResponse:
    """Ask an agent. 202 once the run is on record: it will reach an end, whatever fails meanwhile.

    With `Prefer: wait=SECONDS` 200 and the finished run (or one that waits for a human), if that comes in time; with
    `Accept: text/event-stream` its events as they happen.
    """
    runs, caller = manner.runs, manner.caller
    if manner.streaming:
        manner.streams.require_room()
    correlation_id = manner.correlation_id(body)
    accepted = await runs.invoke(
        caller, checked_id(agent_id), body, idempotency_key=manner.key, correlation_id=correlation_id
    )
    run = accepted.run
    headers = {"Location": f"/api/v1/agents/{run.agent_id}/runs/{run.id}"}
    if not accepted.created:
        headers["Idempotent-Replayed"] = "true"
    if manner.streaming:
        return manner.streams.carry(run_frames(runs, caller, run, 0), headers)
    if manner.wait_s:
        run = await runs.settled(run, manner.wait_s)
        headers["Preference-Applied"] = f"wait={manner.wait_s:g}"
    return shown(run_view(run, messages=True), 200 if is_settled(run) else 202, headers)


router.add_api_route(
    "/agents/{agent_id}/runs",
    invoke_agent,
    methods=["POST"],
    status_code=202,
    response_model=AgentRunResponse,
    dependencies=_WRITE,
    responses=_INVOKED,
    route_class_override=InvocationRoute,
)


@router.get(
    "/agents/{agent_id}/runs/{run_id}",
    response_model=AgentRunResponse,
    dependencies=_READ,
    responses=answers(404, example=examples.RUN),
)
async def get_agent_run(runs: TheRuns, caller: TheCaller, agent_id: str, run_id: str) -> HttpResponse:
    """One run as it is now, with what was said in it."""
    return shown(run_view(await runs.get(caller, checked_id(agent_id), run_id), messages=True))


@router.get(
    "/agents/{agent_id}/runs/{run_id}/stream",
    response_class=HttpResponse,
    dependencies=_READ,
    responses=streamed(answers(404), StreamEvent, _LAST)
    | {204: {"description": "`Last-Event-ID` is that of the last event"}},
)
async def stream_run(
    runs: TheRuns,
    streams: TheStreams,
    caller: TheCaller,
    agent_id: str,
    run_id: str,
    last_event_id: LastEventId = None,
) -> HttpResponse:
    """A run's events as server-sent events: those there are, and those to come until its end.

    Whoever comes back with the last `id:` as `Last-Event-ID` misses nothing and is told nothing twice.
    """
    after = position(last_event_id) or 0
    run = await runs.get(caller, checked_id(agent_id), run_id)
    if run.status.is_terminal and after >= run.seq:
        return HttpResponse(status_code=204)  # which ends a browser's coming back
    return streams.carry(run_frames(runs, caller, run, min(after, run.seq)))


@router.post(
    "/agents/{agent_id}/runs/{run_id}/cancel",
    response_model=AgentRunResponse,
    dependencies=_WRITE,
    responses=answers(404, 413, example=examples.CANCELLED),
)
async def cancel_run(runs: TheRuns, caller: TheCaller, agent_id: str, run_id: str) -> HttpResponse:
    """End a run, at once or as soon as its instance hears of it; one that has ended is shown as it ended."""
    return shown(run_view(await runs.cancel(caller, checked_id(agent_id), run_id), messages=True))


@router.post(
    "/agents/{agent_id}/runs/{run_id}/confirmations/{confirmation_id}",
    response_model=AgentRunResponse,
    dependencies=_WRITE,
    responses=answers(404, 409, 413, example=examples.RESUMED),
)
async def decide_confirmation(
    runs: TheRuns,
    caller: TheCaller,
    agent_id: str,
    run_id: str,
    confirmation_id: str,
    body: Annotated[HumanDecision, Body()],
) -> HttpResponse:
    """Say yes or no to what a run waits for; it goes on. Nobody can take back what was decided: 409."""
    return shown(
        run_view(await runs.decide(caller, checked_id(agent_id), run_id, confirmation_id, body), messages=True)
    )


# --- lists -----------------------------------------------------------------------------------------------------------


def _dated(text: object) -> object:
    # Pydantic takes a number for seconds since 1970, which the document does not promise.
    if isinstance(text, str) and "T" not in text.upper():
        raise ValueError("must be a date and a time with its zone, as in 2026-01-31T12:00:00Z")
    return text


class RunsOf(BaseModel):
    """Which runs; what is left out may be anything."""

    agent: str | None = Field(default=None, max_length=63)
    session: str | None = Field(default=None, max_length=200)
    status: RunStatus | None = None
    user: str | None = Field(default=None, max_length=256)
    since: Annotated[AwareDatetime | None, BeforeValidator(_dated)] = None
    limit: int = Field(default=50, ge=1, le=1000)
    offset: int = Field(default=0, ge=0, le=1_000_000_000)


class AuditAfter(BaseModel):
    """Which rows of the audit."""

    after: int = Field(default=0, ge=0, le=1 << 62)
    limit: int = Field(default=100, ge=1, le=1000)


@router.get("/runs", response_model=RunList, dependencies=_READ, responses=answers(example=examples.RUNS))
async def list_runs(runs: TheRuns, caller: TheCaller, wanted: Annotated[RunsOf, Query()]) -> HttpResponse:
    """The runs that match and that the caller may see, the newest first; `total` counts them before paging."""
    workspace, user = scope_of(caller)
    if user is not None and wanted.user not in {None, user}:
        return shown(RunList(runs=(), total=0))
    found, total = await runs.ledger.runs(
        RunFilter(
            workspace=workspace,
            user_id=user or wanted.user,
            agent_id=wanted.agent,
            session_id=wanted.session,
            status=wanted.status,
            since=wanted.since,
            limit=wanted.limit,
            offset=wanted.offset,
        )
    )
    return shown(RunList(runs=tuple(summary(run) for run in found), total=total))


@router.get(
    "/runs/audit",
    response_model=RunAudit,
    dependencies=[requires("audit:read")],
    responses=answers(example=examples.AUDIT),
)
async def list_run_audit(runs: TheRuns, caller: TheCaller, wanted: Annotated[AuditAfter, Query()]) -> HttpResponse:
    """Who asked for runs, decided what they waited for, and cancelled them: the rows after `after`, oldest first."""
    workspace, _ = scope_of(caller)
    rows = await runs.ledger.audit(workspace, wanted.after, wanted.limit)
    return shown(RunAudit(audit=tuple(map(audit_entry, rows)), next=rows[-1].id if rows else wanted.after))


@router.get(
    "/runs/{run_id}", response_model=AgentRunResponse, dependencies=_READ, responses=answers(404, example=examples.RUN)
)
async def get_run(runs: TheRuns, caller: TheCaller, run_id: str) -> HttpResponse:
    """One run, whichever agent's."""
    return shown(run_view(await runs.find(caller, run_id), messages=True))
