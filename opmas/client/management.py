"""Calls about agents: typed answers, and the errors of `opmas.wire.errors`.

One call is one request: what to repeat, and when, is for the caller to decide. Commands bear repeating; they say how
things shall be, not what to do.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Unpack

from opmas.client.connection import CallOptions, Connection, agent_path, given, read
from opmas.client.stream import followed
from opmas.wire.messages import Message, Response
from opmas.wire.params import AgentFields, AuditParams, EventsParams, ListParams, LogsParams, PackagesParams
from opmas.wire.views import (
    AgentList,
    AgentView,
    AuditView,
    ConfigView,
    ControlResult,
    EventsView,
    EventView,
    LogsView,
    MetricsView,
    NodeList,
    PackageList,
    StatusView,
    WhyView,
)

# The manager may look at the disk first.
_LOOK_S = 8.0
# An agent is gone when its processes are.
_GONE_S = 30.0


class _Batch(Message):
    """What a batch answers."""

    results: tuple[Response, ...]


class ManagementCalls:
    """The part of `OpmasClient` that is about agents, packages and nodes.

    Raises `ManagerUnavailable` when the API or a manager cannot be reached, `PermissionDenied` for a wrong token, and
    what the manager answers: `AgentNotFound`, `Conflict`, `AgentFailed` and the others.
    """

    _api: Connection

    async def agents(self, params: ListParams | None = None, **options: Unpack[CallOptions]) -> AgentList:
        """Every agent of the fleet, or those that match."""
        return await self._api.get("/api/v1/agents", AgentList, params, options=options)

    async def register(
        self, agent_id: str, package: str, fields: AgentFields | None = None, **options: Unpack[CallOptions]
    ) -> AgentView:
        """Make an agent of a package on disk; raises `Conflict` when there is one of this id."""
        body = {"id": agent_id, "name": agent_id, "package": package} | given(fields)
        return read(
            await self._api.exchange("POST", "/api/v1/agents", json=body, more_s=_LOOK_S, options=options), AgentView
        )

    async def update(self, agent_id: str, fields: AgentFields, **options: Unpack[CallOptions]) -> AgentView:
        """Replace what is given; running instances take a new config at once, the rest at their next start."""
        return read(
            await self._api.exchange("PUT", agent_path(agent_id), json=given(fields), options=options), AgentView
        )

    async def delete(self, agent_id: str, *, wait: float = _GONE_S, **options: Unpack[CallOptions]) -> None:
        """Stop an agent and forget it; raises `DeadlineExceeded` when its processes live longer than `wait` seconds."""
        await self._api.exchange("DELETE", agent_path(agent_id), params={"wait": wait}, more_s=wait, options=options)

    async def agent(self, agent_id: str, **options: Unpack[CallOptions]) -> AgentView:
        """One agent with its instances."""
        return await self._api.get(agent_path(agent_id), AgentView, options=options)

    async def status(self, agent_id: str, **options: Unpack[CallOptions]) -> StatusView:
        """An agent's status, its health as it says itself, and the facts behind both."""
        return await self._api.get(agent_path(agent_id, "/status"), StatusView, options=options)

    async def why(self, agent_id: str, **options: Unpack[CallOptions]) -> WhyView:
        """The shortest chain of causes that explains an agent's status, and what to do about it."""
        return await self._api.get(agent_path(agent_id, "/why"), WhyView, options=options)

    async def config(self, agent_id: str, **options: Unpack[CallOptions]) -> ConfigView:
        """An agent's config as its instances get it, and what it is made of."""
        return await self._api.get(agent_path(agent_id, "/config"), ConfigView, options=options)

    async def metrics(self, agent_id: str, **options: Unpack[CallOptions]) -> MetricsView:
        """The figures of an agent, summed over its instances, and of each."""
        return await self._api.get(agent_path(agent_id, "/metrics"), MetricsView, options=options)

    async def logs(self, agent_id: str, params: LogsParams | None = None, **options: Unpack[CallOptions]) -> LogsView:
        """The last lines, or those after an earlier answer's `next`."""
        return await self._api.get(agent_path(agent_id, "/logs"), LogsView, params, options=options)

    async def events(
        self, agent_id: str | None = None, params: EventsParams | None = None, **options: Unpack[CallOptions]
    ) -> EventsView:
        """Status changes and their causes, of all agents or of one."""
        only = {"agent": agent_id} if agent_id is not None else {}
        return await self._api.get("/api/v1/events", EventsView, params, only, options=options)

    async def follow_events(
        self, agent_id: str | None = None, *, after: int | None = None, **options: Unpack[CallOptions]
    ) -> AsyncGenerator[EventView]:
        """Status changes as they happen: those after `after`, without it all to come.

        Goes on where it was when the connection or the API is lost; ends with what the API refuses for good.
        """
        if after is None:
            after = (await self.events(agent_id, EventsParams(limit=1), **options)).next
        only = {"agent": agent_id} if agent_id is not None else {}
        stream = followed(self._api, "/api/v1/events", EventView, only | {"after": str(after)}, options)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def audit(
        self, agent_id: str | None = None, params: AuditParams | None = None, **options: Unpack[CallOptions]
    ) -> AuditView:
        """Who commanded what, and how it was answered."""
        only = {"agent": agent_id} if agent_id is not None else {}
        return await self._api.get("/api/v1/audit", AuditView, params, only, options=options)

    async def nodes(self, **options: Unpack[CallOptions]) -> NodeList:
        """Every node of the fleet."""
        return await self._api.get("/api/v1/nodes", NodeList, options=options)

    async def packages(self, params: PackagesParams | None = None, **options: Unpack[CallOptions]) -> PackageList:
        """Every package on disk, broken ones with their error."""
        return await self._api.get("/api/v1/packages", PackageList, params, options=options)

    async def start(self, agent_id: str, *, wait: float = 0.0, **options: Unpack[CallOptions]) -> ControlResult:
        """Start an agent; with `wait`, return when it runs, or raise `DeadlineExceeded` after so many seconds."""
        return await self._control("start", agent_id, wait, options=options)

    async def stop(self, agent_id: str, *, wait: float = 0.0, **options: Unpack[CallOptions]) -> ControlResult:
        """Stop an agent; `wait` as with `start`."""
        return await self._control("stop", agent_id, wait, options=options)

    async def restart(self, agent_id: str, *, wait: float = 0.0, **options: Unpack[CallOptions]) -> ControlResult:
        """Restart an agent; `wait` as with `start`."""
        return await self._control("restart", agent_id, wait, options=options)

    async def scale(
        self, agent_id: str, replicas: int, *, wait: float = 0.0, **options: Unpack[CallOptions]
    ) -> ControlResult:
        """Set how many instances an agent has; `wait` as with `start`."""
        return await self._control("scale", agent_id, wait, {"replicas": replicas}, options=options)

    async def enable(self, agent_id: str, *, wait: float = 0.0, **options: Unpack[CallOptions]) -> ControlResult:
        """Let a disabled agent be started again; `wait` as with `start`."""
        return await self._control("enable", agent_id, wait, options=options)

    async def disable(self, agent_id: str, *, wait: float = 0.0, **options: Unpack[CallOptions]) -> ControlResult:
        """Stop an agent, and let nothing start it until it is enabled; `wait` as with `start`."""
        return await self._control("disable", agent_id, wait, options=options)

    async def reload(self, agent_id: str, **options: Unpack[CallOptions]) -> ControlResult:
        """Look at the packages again, and let the agent's instances read their config again."""
        return await self._control("reload", agent_id, 0.0, options=options)

    async def batch(
        self,
        action: str,
        agent_ids: Sequence[str] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        wait: float = 0.0,
        **options: Unpack[CallOptions],
    ) -> tuple[Response, ...]:
        """Give one command to many agents, chosen by id or by labels; one response each, whatever became of it."""
        chosen = {"agent_ids": list(agent_ids)} if agent_ids is not None else {"labels": dict(labels or {})}
        answer = await self._api.exchange(
            "POST",
            "/api/v1/agents/batch",
            json={"action": action, **chosen},
            params=_waiting(wait),
            more_s=wait,
            options=options,
        )
        return read(answer, _Batch).results

    async def _control(
        self, command: str, agent_id: str, wait: float, body: Mapping[str, int] | None = None, *, options: CallOptions
    ) -> ControlResult:
        answer = await self._api.exchange(
            "POST", agent_path(agent_id, f"/{command}"), params=_waiting(wait), json=body, more_s=wait, options=options
        )
        return ControlResult.model_validate(read(answer, Response).result)


def _waiting(wait: float) -> dict[str, float]:
    return {"wait": wait} if wait else {}
