"""What goes into the store comes out of it, the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime

from agent_manager.store import AgentRow, Store

ECHO = AgentRow(
    id="echo", package="echo", name="Echo", labels={"tier": "a"}, capabilities=["talk"], config={"n": [1, None]}
)
MOMENT = datetime(2026, 7, 1, 12, 30, 0, 123456, UTC)


async def test_an_agent_comes_back_as_it_was_saved(store: Store) -> None:
    await store.save_agent(ECHO)

    assert await store.agents() == [ECHO]


async def test_ping(store: Store) -> None:
    await store.ping()
