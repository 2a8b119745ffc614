"""What exists for a caller: of another tenant's agent, every route says what it says of an agent that is none.

The manager answers for the whole fleet and knows no tenants; its answers are narrowed here. An agent whose `access`
names no workspace is everybody's: whoever wants tenants kept apart names the workspaces of each agent.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from management_api.auth.door import Unauthenticated
from management_api.auth.principal import Principal
from management_api.fleet import Fleet
from opmas.wire.errors import AgentNotFound
from opmas.wire.params import ListParams
from opmas.wire.views import AgentList, AgentView, AuditEntry, EventView

# How many rows of history are looked through for those that the caller may see: as many as the manager hands out.
WIDE = 1000

Row = TypeVar("Row", EventView, AuditEntry)


async def require_agent(fleet: Fleet, caller: Principal, agent_id: str) -> None:
    """Raise `AgentNotFound` unless the agent exists for the caller.

    The manager's own words are for those who see everything: its hint names agents with similar ids. Raises
    `Unauthenticated` once the caller's credentials have run out, as streams ask again and again.
    """
    _require_valid(caller)
    if caller.everywhere:
        return
    try:
        seen = caller.sees((await fleet.query("get", AgentView, agent_id)).access)
    except AgentNotFound:
        seen = False
    if not seen:
        raise no_such_agent(agent_id)


def no_such_agent(agent_id: str) -> AgentNotFound:
    """Say of an agent that does not exist for the caller what is said of one that does not exist."""
    return AgentNotFound(f"there is no agent {agent_id!r}", "`opmas ls` lists the agents")


def _require_valid(caller: Principal) -> None:
    if not caller.is_valid():
        raise Unauthenticated("cannot go on: the credentials have expired or were revoked", "come back with new ones")


async def visible_agents(fleet: Fleet, caller: Principal, params: ListParams | None = None) -> tuple[AgentView, ...]:
    """List the agents that match and exist for the caller, by id, whatever the number of pages they come in."""
    given = (params or ListParams()).model_dump(mode="json", exclude_unset=True)
    page = await fleet.query("list", AgentList, params=given)
    agents = [*page.agents]
    while page.next is not None:
        page = await fleet.query("list", AgentList, params=given | {"after": page.next})
        agents += page.agents
    return tuple(agent for agent in agents if caller.sees(agent.access))


def shown(
    rows: Sequence[Row], following: int, visible: Callable[[str], bool], after: int | None, limit: int
) -> tuple[tuple[Row, ...], int]:
    """Take from rows of history, of which `WIDE` were asked for, those to show, and the id after which to go on."""
    seen = [row for row in rows if visible(row.agent_id)]
    if after is None:
        return tuple(seen[-limit:]), following
    return tuple(seen[:limit]), seen[limit - 1].id if len(seen) > limit else following


async def visibility(fleet: Fleet, caller: Principal) -> Callable[[str], bool]:
    """Return a function that says of an agent's id whether the caller may hear of it: for events and audit rows.

    What was registered once and is no more has no `access` to go by, so only those who see everything hear of it.
    Raises `Unauthenticated` once the caller's credentials have run out.
    """
    _require_valid(caller)
    if caller.everywhere:
        return lambda _: True
    ids = frozenset(agent.id for agent in await visible_agents(fleet, caller))
    return ids.__contains__
