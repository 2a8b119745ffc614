"""Discovery on a real disk: what comes, changes and goes is noticed, and one package's trouble stays its own."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_manager.discovery import AgentDiscovery, PackagesChanged
from agent_manager.package import Package

DEADLINE_S = 10  # only a hang lasts so long; promptness is not this suite's to time


class Watcher:
    """A discovery that runs, and all it has told."""

    def __init__(self, packages_dir: Path, interval_s: float = 3600) -> None:
        self.told: list[PackagesChanged] = []
        self._news = asyncio.Condition()
        self.discovery = AgentDiscovery(packages_dir, interval_s, self._on_change)

    async def _on_change(self, change: PackagesChanged) -> None:
        async with self._news:
            self.told.append(change)
            self._news.notify_all()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: bool(holds()))

    def added(self) -> list[str]:
        return [package.name for change in self.told for package in change.added]

    def changed(self) -> list[Package]:
        return [package for change in self.told for package in change.changed]

    def removed(self) -> list[str]:
        return [package.name for change in self.told for package in change.removed]


@asynccontextmanager
async def watching(packages_dir: Path, interval_s: float = 3600) -> AsyncIterator[Watcher]:
    watcher = Watcher(packages_dir, interval_s)
    task = asyncio.create_task(watcher.discovery.run(), name="discovery")
    try:
        yield watcher
    finally:
        task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([task])
        assert task.cancelled(), task.exception()


def put(packages_dir: Path, folder: str, name: str = "", extra: str = "") -> Path:
    path = packages_dir / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "agent.py").write_text("agent = None\n")
    (path / "agent.yaml").write_text(f"name: {name or folder}\nentrypoint: agent.py\n{extra}")
    return path


async def look(packages_dir: Path) -> AgentDiscovery:
    discovery = Watcher(packages_dir).discovery
    await discovery.look()
    return discovery


async def test_the_first_look_finds_packages_and_skips_what_is_none(tmp_path: Path) -> None:
    for folder in ("b", "a", "__pycache__", "_template", "test", ".hidden"):
        put(tmp_path, folder, folder.strip("._"))
    (tmp_path / "no-manifest").mkdir()
    (tmp_path / "a-file").touch()

    discovery = await look(tmp_path)

    assert [package.folder.name for package in discovery.packages] == ["a", "b"]


async def test_one_bad_package_is_listed_and_stops_no_other(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b", extra="replicsa: 2\n")
    put(tmp_path, "c")

    discovery = await look(tmp_path)

    assert [package.manifest is not None for package in discovery.packages] == [True, False, True]
    broken = discovery.get("b")
    assert broken is not None
    assert broken.error is not None
    assert "did you mean 'replicas'?" in broken.error.message


async def test_of_two_packages_with_one_name_the_incumbent_holds_it(tmp_path: Path) -> None:
    put(tmp_path, "m", "echo")
    discovery = await look(tmp_path)
    put(tmp_path, "a", "echo")
    put(tmp_path, "z", "echo")

    change = await discovery.look()

    held = discovery.get("echo")
    assert held is not None
    assert held.folder.name == "m"
    assert [(package.folder.name, package.duplicate_of) for package in change.added] == [
        ("a", tmp_path / "m"),
        ("z", tmp_path / "m"),
    ]
    assert all(package.error and str(tmp_path / "m") in package.error.message for package in change.added)


async def test_when_the_holder_of_a_name_goes_the_next_folder_gets_it(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        put(tmp_path, folder, "echo")
    discovery = await look(tmp_path)
    put(tmp_path, "a", "parrot")

    change = await discovery.look()

    assert [package.name for package in change.removed] == ["echo"]
    assert [package.name for package in change.added] == ["parrot"]
    assert [(package.folder.name, package.error) for package in change.changed] == [("b", None)]


async def test_a_slip_in_a_manifest_is_a_change_and_no_removal(tmp_path: Path) -> None:
    put(tmp_path, "folder", "echo")
    discovery = await look(tmp_path)
    (tmp_path / "folder" / "agent.yaml").write_text("[")

    change = await discovery.look()

    assert change.removed == change.added == ()
    assert [(package.name, package.manifest) for package in change.changed] == [("echo", None)]


async def test_a_look_that_finds_nothing_new_says_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, "a")
    put(tmp_path, "b", "a")
    watcher = Watcher(tmp_path)
    await watcher.discovery.look()
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "agent.pyc").touch()
    (path / "agent.log").touch()
    (path / ".agent.py.swp").touch()

    assert not await watcher.discovery.look()
    assert len(watcher.told) == 1


async def test_what_could_not_be_told_is_told_by_the_next_look(tmp_path: Path) -> None:
    told: list[PackagesChanged] = []

    async def fail_once(change: PackagesChanged) -> None:
        told.append(change)
        if len(told) == 1:
            raise TimeoutError

    put(tmp_path, "echo")
    discovery = AgentDiscovery(tmp_path, 3600, fail_once)
    with pytest.raises(TimeoutError):
        await discovery.look()

    await discovery.look()
    assert [[package.name for package in change.added] for change in told] == [["echo"], ["echo"]]
    assert not await discovery.look()


async def test_new_changed_and_removed_packages_are_noticed(tmp_path: Path) -> None:
    put(tmp_path, "a")
    async with watching(tmp_path) as watcher:
        await watcher.until(lambda: watcher.added() == ["a"])

        put(tmp_path, "b")
        await watcher.until(lambda: watcher.added() == ["a", "b"])

        (tmp_path / "a" / "agent.py").write_text("agent = 'another'\n")
        await watcher.until(lambda: "a" in [package.name for package in watcher.changed()])

        shutil.rmtree(tmp_path / "a")
        await watcher.until(lambda: watcher.removed() == ["a"])
        assert [package.name for package in watcher.discovery.packages] == ["b"]


async def test_a_folder_gone_for_a_moment_is_not_removed(tmp_path: Path) -> None:
    path = put(tmp_path / "packages", "a")
    discovery = await look(tmp_path / "packages")

    path.rename(tmp_path / "away")
    change = await discovery.look()
    (tmp_path / "away").rename(path)

    assert not change
    assert not (await discovery.look()).removed


async def test_without_a_watch_the_interval_finds_the_change(tmp_path: Path) -> None:
    # The kernel tells nothing of what happens behind a symbolic link that is set after the watch began.
    elsewhere = put(tmp_path / "elsewhere", "a")
    (tmp_path / "packages").mkdir()
    async with watching(tmp_path / "packages", interval_s=0.1) as watcher:
        (tmp_path / "packages" / "a").symlink_to(elsewhere)
        await watcher.until(lambda: watcher.added() == ["a"])
        (elsewhere / "agent.py").write_text("agent = 'another'\n")
        await watcher.until(watcher.changed)


async def test_a_packages_folder_that_appears_later_or_is_replaced_is_found(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    async with watching(packages) as watcher:
        put(tmp_path / "new", "a")
        (tmp_path / "new").rename(packages)
        await watcher.until(lambda: watcher.added() == ["a"])

        packages.rename(tmp_path / "old")
        put(tmp_path / "other", "b")
        (tmp_path / "other").rename(packages)
        await watcher.until(lambda: watcher.added() == ["a", "b"] and watcher.removed() == ["a"])
        put(packages, "c")
        await watcher.until(lambda: "c" in watcher.added())


async def test_a_missing_packages_folder_takes_nothing_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    packages = tmp_path / "packages"
    put(packages, "a")
    discovery = await look(packages)
    packages.rename(tmp_path / "unmounted")

    for _ in range(2):
        assert not await discovery.look()

    assert [package.name for package in discovery.packages] == ["a"]
    assert caplog.text.count("cannot read the packages folder") == 1
