"""Fleets: one that the tests of a module share, and one of a test's own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.manager.fleet import Fleet, Operator, fleet


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Fleet]:
    """Provide a fleet for one test, whose manager it starts itself."""
    with fleet(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def manager_database() -> str:
    """Name the database of the shared manager; a module that tests both back ends overrides it."""
    return ""


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, manager_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Run one manager for a module, with its `SETTINGS` and the packages that its `packages` writes."""
    settings = {"OPMAS_DATABASE__URL": manager_database, **getattr(request.module, "SETTINGS", {})}
    with fleet(tmp_path_factory.mktemp("fleet"), **settings) as one:
        request.module.packages(one)
        one.manager.start()
        yield one


@pytest.fixture
async def operator(shared: Fleet) -> AsyncIterator[Operator]:
    """Speak to the shared manager."""
    async with shared.operator() as one:
        yield one
