"""What goes into the store comes out of it, the same on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent_manager.store import AgentRow, AuditRow, EventRow, InstanceRow, Store
from opmas.wire.errors import Conflict, InvalidRequest
from opmas.wire.status import AgentStatus, Desired

MOMENT = datetime(2026, 7, 1, 12, 30, 0, 123456, UTC)
ECHO = AgentRow(
    id="echo",
    package="echo",
    name="Écho 🦜",
    type="demo",
    version="1.0",
    description="says it again",
    labels={"tier": "a"},
    capabilities=["talk"],
    config={"nested": [1, 2.5, None, {"deep": True}]},
    desired=Desired.RUNNING,
    replicas=3,
    node="here",
    created_at=MOMENT,
    updated_at=MOMENT,
)
FIRST = InstanceRow(
    agent_id="echo",
    ordinal=0,
    node="here",
    status=AgentStatus.RUNNING,
    pid=4711,
    start_count=2,
    restarts=1,
    started_at=MOMENT,
    last_heartbeat=MOMENT,
    next_retry_at=MOMENT,
    reason="crash",
    last_exit={"exit_code": 1, "signal": None},
)


def event(agent_id: str = "echo", time: datetime = MOMENT) -> EventRow:
    return EventRow(
        node="here",
        agent_id=agent_id,
        instance_id=f"{agent_id}-0",
        kind="status",
        status=AgentStatus.ERROR,
        cause={"exit_code": 1},
        time=time,
    )


async def test_an_agent_and_its_instances_come_back_as_they_were_saved(store: Store) -> None:
    await store.save_agent(ECHO)
    await store.save_instances([FIRST, replace(FIRST, ordinal=1, pid=None, last_exit=None, started_at=None)])

    assert await store.agents() == [ECHO]
    assert await store.instances() == [FIRST, replace(FIRST, ordinal=1, pid=None, last_exit=None, started_at=None)]


async def test_saving_again_replaces_all_but_the_time_of_creation(store: Store) -> None:
    await store.save_agent(ECHO)
    await store.save_instances([FIRST])
    later = MOMENT + timedelta(hours=1)

    await store.save_agent(replace(ECHO, replicas=1, desired=Desired.STOPPED, created_at=later, updated_at=later))
    await store.save_instances([replace(FIRST, pid=4712)])

    assert await store.agents() == [replace(ECHO, replicas=1, desired=Desired.STOPPED, updated_at=later)]
    assert await store.instances() == [replace(FIRST, pid=4712)]


async def test_a_save_based_on_an_outdated_generation_is_a_conflict(store: Store) -> None:
    await store.save_agent(replace(ECHO, generation=4))

    with pytest.raises(Conflict, match="cannot save agent echo: it was changed since generation 3"):
        await store.save_agent(replace(ECHO, generation=4, replicas=9), if_generation=3)
    with pytest.raises(Conflict):
        await store.save_agent(replace(ECHO, replicas=9), if_generation=-1)
    await store.save_agent(replace(ECHO, generation=5, replicas=2), if_generation=4)

    assert [(row.generation, row.replicas) for row in await store.agents()] == [(5, 2)]


async def test_a_deleted_agent_leaves_a_tombstone_that_takes_no_instances(store: Store) -> None:
    await store.save_agent(ECHO)
    await store.save_agent(replace(ECHO, id="other"))
    await store.save_instances([FIRST])

    await store.delete_agent("echo")
    await store.save_instances([FIRST, replace(FIRST, agent_id="other"), replace(FIRST, agent_id="unheard-of")])

    echo, other = await store.agents()
    assert (echo.deleted, echo.desired, echo.generation) == (True, Desired.STOPPED, 1)
    assert not other.deleted
    assert [row.agent_id for row in await store.instances()] == ["other"]


async def test_a_forgotten_agent_leaves_nothing_but_its_history(store: Store) -> None:
    await store.save_agent(ECHO)
    await store.save_instances([FIRST])
    ids = await store.add_events([event()])

    await store.forget_agent("echo")

    assert (await store.agents(), await store.instances()) == ([], [])
    assert [row.id for row in await store.events("echo")] == ids


async def test_scaling_down_forgets_the_instances_above(store: Store) -> None:
    await store.save_agent(ECHO)
    await store.save_instances([replace(FIRST, ordinal=ordinal) for ordinal in range(4)])

    await store.delete_instances("echo", from_ordinal=2)

    assert [row.ordinal for row in await store.instances()] == [0, 1]


async def test_events_get_rising_ids_and_are_read_by_agent_and_position(store: Store) -> None:
    rows = [event(agent_id) for agent_id in ("echo", "other", "echo", "echo")]

    ids = await store.add_events(rows)

    assert ids == sorted(set(ids))
    assert await store.events() == [replace(row, id=number) for row, number in zip(rows, ids, strict=True)]
    assert [row.id for row in await store.events("echo", limit=2)] == [ids[2], ids[3]]  # the newest
    assert [row.id for row in await store.events("echo", after=ids[0], limit=1)] == [ids[2]]  # what follows
    assert await store.add_events([]) == []


async def test_an_audit_row_comes_back_as_it_was_added(store: Store) -> None:
    row = AuditRow(
        node="here",
        publisher="alice",
        command="start",
        agent_id="echo",
        params={"wait": 5},
        outcome="success",
        error_code=None,
        correlation_id="c-1",
        time=MOMENT,
    )

    number = await store.add_audit(row)

    assert await store.audit("echo") == [replace(row, id=number)]
    assert await store.audit("echo", after=number) == []


async def test_pruning_removes_what_is_older_and_no_id_is_used_again(store: Store) -> None:
    old = await store.add_events([event(time=MOMENT - timedelta(days=1)), event(time=MOMENT - timedelta(seconds=1))])

    assert await store.prune(MOMENT) == 2

    assert await store.events() == []
    assert (await store.add_events([event()]))[0] > old[-1]
    assert await store.prune(MOMENT) == 0


async def test_times_are_kept_whatever_zone_they_were_said_in(store: Store) -> None:
    delhi = timezone(timedelta(hours=5, minutes=30))

    await store.add_events([event(time=MOMENT.astimezone(delhi))])

    assert [row.time for row in await store.events()] == [MOMENT]
    assert (await store.events())[0].time.tzinfo is UTC


async def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot record events: .* no time zone"):
        await store.add_events([event(time=MOMENT.replace(tzinfo=None))])


async def test_hostile_text_and_numbers_are_recorded_not_refused(store: Store) -> None:
    await store.add_audit(
        AuditRow(
            node="here",
            publisher="nul \0, half a pair \ud800",
            command="';DROP TABLE agents;--",
            agent_id="*",
            params={"nan": float("nan"), "nul": "\0", "surrogate": "\ud800", "inf": [float("inf")], "big": 10**40},
            outcome="error",
        )
    )

    (row,) = await store.audit()

    assert row.publisher == "nul \ufffd, half a pair ?"
    assert row.command == "';DROP TABLE agents;--"
    assert row.params == {"nan": None, "nul": "\0", "surrogate": "\ud800", "inf": [None], "big": 10**40}


async def test_a_broken_rule_of_the_schema_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict, match="cannot save agent echo: the database refuses it"):
        await store.save_agent(replace(ECHO, replicas=-1))
