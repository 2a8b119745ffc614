"""A ledger on each back end."""

from collections.abc import AsyncIterator

import pytest

from management_api.store import ApiStore, Ledger
from tests.integration.ledger.making import Instance


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with ApiStore.open(database_url) as store:
        await store.prepare()
        yield store


@pytest.fixture
def ledger(store: ApiStore) -> Ledger:
    return Ledger(store)


@pytest.fixture
async def other_ledger(store: ApiStore, database_url: str) -> AsyncIterator[Ledger]:
    """That of a second API on the same database."""
    async with ApiStore.open(database_url) as other:
        await other.prepare()
        yield Ledger(other)


@pytest.fixture
def instance(ledger: Ledger) -> Instance:
    return Instance(ledger)
