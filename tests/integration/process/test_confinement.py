"""What the kernel keeps an instance from, and what ordinary programs do all the same."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_manager.process.confine import landlock_abi
from agent_manager.process.slot import Slot
from tests.integration.process.yard import PATIENCE_S, Yard, lines_of

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that is not under /tmp, which instances are to go on using."""
    home = Path(tempfile.mkdtemp(prefix="opmas-test-", dir="/var/tmp"))
    yield home
    shutil.rmtree(home)


async def test_an_instance_reaches_its_own_but_nothing_of_others(yard: Yard, home: Path) -> None:
    for name in ("run/spy/0", "run/other/0", "data/spy", "packages"):
        (home / "private" / name).mkdir(parents=True)
    package = home / "package"
    package.mkdir()
    own, other = (home / "private" / "run" / name / "0" / "creds" for name in ("spy", "other"))
    own.write_text("mine")
    other.write_text("not yours")
    victim = await yard.run("victim", "idle")
    env = {
        "PATH": "/usr/bin:/bin",
        "OWN": str(own),
        "OTHER": str(other),
        "PRIVATE": str(home / "private"),
        "ALLOWED": str(home / "private" / "data" / "spy"),
        "VICTIM": str(victim.state.pid),
    }

    shim = await yard.spawn(
        "spy",
        "confined",
        slot_dir=str(Slot(own.parent).path),
        env=env,
        cwd=str(package),
        private_dir=str(home / "private"),
        writable=(str(home / "private" / "data" / "spy"),),
    )
    async with asyncio.timeout(PATIENCE_S):
        await shim.wait()

    found = json.loads(lines_of(shim)[-1])
    refused = {name for name, result in found.items() if result == "PermissionError"}
    expected = {"write own", "read other", "make in private", "remove other"}
    assert refused - {"signal other", "signal shim"} == expected
    assert all(result == "ok" for name, result in found.items() if name not in refused)
    if landlock_abi() >= 6:
        assert {"signal other", "signal shim"} <= refused
    victim.close()
