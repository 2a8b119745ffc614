"""A migrated store on each back end."""

from collections.abc import AsyncIterator

import pytest

from agent_manager.store import Store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Store.open(database_url) as store:
        await store.migrate()
        yield store
