"""While the database is away agents go on, commands say so, and when it is back nothing is missing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_manager.store import Store
from opmas.bus import NoResponders
from opmas.wire.errors import DatabaseUnavailable, ManagerUnavailable
from tests.integration.manager.fleet import SLEEPER, WORKER, Fleet, Operator, fleet, pids, until
from tests.node import exists, kill


@contextmanager
def away(postgres: Any) -> Iterator[None]:
    """Stop the server, and start it again whatever happens."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_url: str) -> Iterator[Fleet]:
    with fleet(tmp_path, OPMAS_DATABASE__URL=postgres_url) as one:
        one.package("worker", WORKER)
        one.package("sleeper", **SLEEPER)
        yield one


async def _healthy(operator: Operator) -> bool:
    return bool((await operator.query("health"))["status"] == "ok")


async def test_an_outage_stops_no_agent_and_loses_no_record(
    on_postgres: Fleet, postgres: Any, postgres_url: str
) -> None:
    on_postgres.manager.start()
    async with on_postgres.operator() as operator:
        (pid,) = pids(await operator.running("worker"))
        (asleep,) = pids(await operator.start("sleeper"))
        with away(postgres):
            with pytest.raises(DatabaseUnavailable) as raised:
                await operator.command("stop", "sleeper")
            kill(pid)  # supervision needs no database
            await operator.until("worker", lambda v: v["status"] == "running" and pids(v) not in ([], [pid]))
            health = await operator.query("health")
            why = await operator.query("why", "worker")
            assert exists(asleep)

        await until(lambda: _healthy(operator), "the database to be found again")
        await operator.stop("sleeper")

        async def recorded() -> bool:
            events = await operator.events("worker")
            return any(event["cause"].get("signal") == 9 for event in events) and events[-1]["status"] == "running"

        await until(recorded, "what happened meanwhile")

    assert "OPMAS_DATABASE__URL" in raised.value.hint
    assert health["status"] == "degraded"
    assert why["code"] == "restarted"
    assert [step["what"] for step in why["steps"]] == [
        "what happened before is not known here: the database does not answer",
        "worker-0: killed by signal 9",
        "worker-0 was started again",
    ]
    assert health["checks"]["database"] == "unavailable"
    async with Store.open(postgres_url) as store:
        audit = [(row.command, row.outcome, row.error_code) for row in await store.audit("sleeper")]
        rows = {row.agent_id: row for row in await store.instances()}
    assert audit == [
        ("start", "success", None),
        ("stop", "error", "database_unavailable"),
        ("stop", "success", None),
    ]
    assert rows["worker"].restarts == 1


async def test_a_manager_that_finds_no_database_waits_for_it_and_leaves_what_lives_alone(
    on_postgres: Fleet, postgres: Any
) -> None:
    on_postgres.manager.start()
    async with on_postgres.operator() as operator:
        before = pids(await operator.running("worker"))
        on_postgres.manager.kill()
        with away(postgres):
            on_postgres.manager.start(listening=False)
            await until(lambda: _said(on_postgres, '"waiting_for_database"'), "the manager to say what it waits for")
            await until(lambda: _answers(operator), "the manager to listen")
            with pytest.raises(ManagerUnavailable, match="has not read its database yet"):
                await operator.command("stop", "worker")
            assert (await operator.query("health"))["status"] == "starting"
            assert all(map(exists, before))

        after = await operator.running("worker")
    assert pids(after) == before


async def _answers(operator: Operator) -> bool:
    try:
        await operator.query("health")
    except NoResponders:
        return False
    return True


async def _said(one: Fleet, words: str) -> bool:
    return words in one.manager.log.read_text()


async def test_stopping_a_manager_that_never_found_its_database_stops_the_agents_too(
    on_postgres: Fleet, postgres: Any
) -> None:
    on_postgres.manager.start()
    async with on_postgres.operator() as operator:
        living = pids(await operator.running("worker"))
    on_postgres.manager.kill()
    with away(postgres):
        on_postgres.manager.start(listening=False)
        await until(lambda: _said(on_postgres, '"waiting_for_database"'), "the manager to wait")
        assert await asyncio.to_thread(on_postgres.manager.stop) == 0

    assert not any(map(exists, living))
