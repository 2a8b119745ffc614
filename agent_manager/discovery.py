"""Which packages there are: looks at the packages folder, and says what came, changed or went.

What becomes of their agents is the manager's affair; whether a package is sound is `package`'s.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import Change, awatch

from agent_manager.fingerprint import fingerprint, is_noise, look_at
from agent_manager.package import MANIFEST, Package, load_package
from opmas.wire.errors import Conflict, ErrorBody

logger = logging.getLogger(__name__)

_SKIPPED = frozenset({"__pycache__", "_template", "test"})
_GONE_AFTER_S = 0.5  # git and editors take a folder away for a moment
_LOOK_EVERY_S = 1.0  # while the packages folder is missing or cannot be watched
_DEBOUNCE_MS = 400  # a change is to be noticed within 2 s


@dataclass(frozen=True, slots=True)
class PackagesChanged:
    """The difference between two looks. A renamed package is one removed and one added; broken ones are in here too."""

    added: tuple[Package, ...] = ()
    changed: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class AgentDiscovery:
    """Watches `packages_dir` and awaits `on_change` with every difference, one at a time.

    Call `look()` for the first look (all is `added`), then let `run()` look again whenever something changes and every
    `interval_s` seconds. An unreadable or missing packages folder takes nothing away: what was known stays.
    `on_change` sees the new `packages`; it must not call `look()`.
    """

    def __init__(
        self,
        packages_dir: Path,
        interval_s: float,
        on_change: Callable[[PackagesChanged], Awaitable[None]],
    ) -> None:
        self._dir = packages_dir
        self._interval_s = interval_s
        self._on_change = on_change
        self._looking = asyncio.Lock()
        self._touched = asyncio.Event()
        self._loaded: dict[Path, Package] = {}  # as read from disk, each folder for itself
        self._known: dict[Path, Package] = {}  # with duplicates told apart
        self._missing_since: dict[Path, float] = {}
        self._warned = ""

    @property
    def packages(self) -> tuple[Package, ...]:
        """All packages, by folder, with those that are wrong."""
        return tuple(self._known.values())

    def get(self, name: str) -> Package | None:
        """Find the package that holds an agent's name, sound or not; duplicates hold none."""
        return next((p for p in self._known.values() if p.name == name and p.duplicate_of is None), None)

    async def look(self) -> PackagesChanged:
        """Look at the disk now; return what is different, after `on_change` has been awaited with it."""
        async with self._looking:
            found = await asyncio.to_thread(_read_all, self._dir, dict(self._loaded))
            if found is None:
                self._warn_once(f"cannot read the packages folder {self._dir}: create it, or set OPMAS_PACKAGES")
                return PackagesChanged()
            self._keep_the_briefly_missing(found)
            known = _settle_names(found, self._known)
            difference = _difference(self._known, known)
            before = self._loaded, self._known
            self._loaded, self._known = found, known
            try:
                if difference:
                    await self._on_change(difference)
            except BaseException:
                self._loaded, self._known = before  # given up half-way: the next look finds it again
                raise
            return difference

    async def run(self) -> None:
        """Look again and again until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="discovery-watch")
            while True:
                await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GONE_AFTER_S if self._missing_since else self._interval_s):
                        await self._touched.wait()
                self._touched.clear()

    async def _watch(self) -> None:
        """Set `_touched` at every change on disk, and every second when the folder cannot be watched."""
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it reports each change at INFO
        while True:
            identity = await asyncio.to_thread(_identity, self._dir)
            if identity is not None:
                self._touched.set()
                try:
                    await self._watch_while(identity)
                except (OSError, RuntimeError) as error:  # no watches left; or what watchfiles did not expect
                    self._warn_once(f"cannot watch {self._dir}, looking at it every second: {error}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _watch_while(self, identity: tuple[int, int]) -> None:
        # A watch follows the folder, not its path: it is renewed when another folder has taken the place.
        changes = awatch(
            self._dir,
            watch_filter=self._matters,
            debounce=_DEBOUNCE_MS,
            rust_timeout=int(_LOOK_EVERY_S * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        in_place = False
        async with aclosing(changes):
            async for change in changes:
                # The first answer says that the watch is in place: what happened before it is looked for once.
                if change or not in_place:
                    self._touched.set()
                in_place = True
                if await asyncio.to_thread(_identity, self._dir) != identity:
                    return

    def _matters(self, _: Change, path: str) -> bool:
        try:
            folder, *rest = Path(path).relative_to(self._dir).parts
        except ValueError:  # the packages folder itself
            return True
        return not _is_skipped(folder) and not any(is_noise(part) for part in rest)

    def _keep_the_briefly_missing(self, found: dict[Path, Package]) -> None:
        now = time.monotonic()
        gone = [folder for folder in self._loaded if folder not in found]
        self._missing_since = {folder: self._missing_since.get(folder, now) for folder in gone}
        for folder, since in list(self._missing_since.items()):
            if now - since < _GONE_AFTER_S:
                found[folder] = self._loaded[folder]
            else:
                del self._missing_since[folder]

    def _warn_once(self, words: str) -> None:
        if words != self._warned:
            logger.warning(words)
        self._warned = words


def _is_skipped(folder: str) -> bool:
    return folder in _SKIPPED or folder.startswith(".")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _read_all(packages_dir: Path, before: Mapping[Path, Package]) -> dict[Path, Package] | None:
    """Read every package that is not as it was; None when the packages folder cannot be read."""
    try:
        folders = sorted(folder for folder in packages_dir.iterdir() if not _is_skipped(folder.name))
        return {folder: _read(folder, before.get(folder)) for folder in folders if (folder / MANIFEST).exists()}
    except OSError:
        return None


def _read(folder: Path, before: Package | None) -> Package:
    try:
        files = look_at(folder)
        digest = fingerprint(files)
        if before is not None and before.digest == digest:
            return before
        package = replace(load_package(folder, digest), files=files)
    except Exception as error:
        # The edge where one package's trouble stops being everybody's.
        logger.exception("cannot load the package in %s", folder)
        body = ErrorBody(code="package_invalid", message=f"{folder}: cannot be loaded: {error}")
        package = Package(folder, folder.name, "", error=body)
    if package.manifest is None and before is not None:
        # A slip in a manifest is not a new name: the agent that runs keeps its package.
        return replace(package, name=before.name)
    return package


def _settle_names(found: Mapping[Path, Package], before: Mapping[Path, Package]) -> dict[Path, Package]:
    """Let each name be held by one package: by the one that held it, else by the first folder."""
    holders = {
        old.name: folder
        for folder, old in before.items()
        if old.duplicate_of is None and folder in found and found[folder].name == old.name
    }
    settled = {}
    for folder, package in sorted(found.items()):
        holder = holders.setdefault(package.name, folder)
        settled[folder] = package if holder == folder else _duplicate(package, holder)
    return settled


def _duplicate(package: Package, holder: Path) -> Package:
    error = Conflict(
        f"{package.folder / MANIFEST}: the name {package.name!r} is taken by the package in {holder}",
        "Give one of the two another name.",
    )
    return replace(package, manifest=None, error=error.body(), duplicate_of=holder)


def _difference(before: Mapping[Path, Package], now: Mapping[Path, Package]) -> PackagesChanged:
    same = {folder for folder in before.keys() & now.keys() if before[folder].name == now[folder].name}
    return PackagesChanged(
        added=tuple(package for folder, package in now.items() if folder not in same),
        changed=tuple(package for folder, package in now.items() if folder in same and package != before[folder]),
        removed=tuple(package for folder, package in before.items() if folder not in same),
    )
