"""A template of the test's own; whoever still lives when the test ends is killed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_manager.process.launcher import Template
from tests.integration.process.yard import Yard


@pytest.fixture
async def template(tmp_path: Path) -> AsyncIterator[Template]:
    async with await Template.start((), tmp_path / "template.log") as template:
        yield template


@pytest.fixture
async def yard(tmp_path: Path, template: Template) -> AsyncIterator[Yard]:
    yard = Yard(tmp_path, template)
    yield yard
    await yard.close()
