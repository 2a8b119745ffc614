"""Fleets: one that the tests of a module share, once per database, and one of a test's own."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.manager.fleet import Fleet, Operator, fleet


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Fleet]:
    """Provide a fleet for one test, whose manager it starts itself."""
    with fleet(tmp_path) as one:
        yield one


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run one manager for a module, with the packages that its `PACKAGES` writes."""
    write: Callable[[Fleet], None] = request.module.packages
    settings = dict(getattr(request.module, "SETTINGS", {}))
    postgres = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        settings["OPMAS_DATABASE__URL"] = postgres.new_database()
    with fleet(tmp_path_factory.mktemp("fleet"), **settings) as one:
        write(one)
        one.manager.start()
        yield one
    if postgres is not None:
        postgres.drop_database(settings["OPMAS_DATABASE__URL"])


@pytest.fixture
async def operator(shared: Fleet) -> AsyncIterator[Operator]:
    """Speak to the shared manager."""
    async with shared.operator() as one:
        yield one
