"""Restarts agents whose files change, once the changes have come to rest. For authors at work: `watch`, `up --reload`.

Discovery sees the changes; here they are gathered, agent by agent, and held against what is to be watched. A package
that is broken meanwhile restarts nothing: what runs goes on, and the mended package brings the changes in.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from agent_manager.package import Package
from agent_manager.registry import AgentRecord, AgentRegistry
from opmas.wire.errors import DatabaseUnavailable, OpmasError
from opmas.wire.manifest import Watch
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_NAMED = 3  # so many files are named in the cause


@dataclass(slots=True)
class _Changes:
    """What has changed since an agent was last restarted for it, and when that is due (monotonic seconds)."""

    files: set[str] = field(default_factory=set)
    due: float | None = None


class Watching:
    """Collects changes from discovery and carries the restarts out from one task, `run`."""

    def __init__(self, registry: AgentRegistry, *, reload: bool) -> None:
        self._registry = registry
        self._everything = Watch() if reload else None
        self._changes: dict[str, _Changes] = {}
        self._noticed = asyncio.Event()

    def notice(self, record: AgentRecord, was: Package | None, package: Package) -> None:
        """Take note that an agent's package was one thing and is another."""
        if was is None:
            return
        changes = self._changes.setdefault(record.id, _Changes())
        changes.files |= package.files_changed_since(was)
        if package.manifest is None:
            changes.due = None
            return
        watch = self._everything or package.manifest.watch
        if watch is None or not any(map(watch.covers, changes.files)):
            del self._changes[record.id]
            return
        changes.due = time.monotonic() + watch.debounce
        self._noticed.set()

    async def run(self, renew: Callable[[AgentRecord, Cause], Awaitable[None]]) -> None:
        """Let `renew` restart what is due, for ever."""
        while True:
            self._noticed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._noticed.wait()
            for agent_id, changes in list(self._changes.items()):
                if changes.due is not None and changes.due <= time.monotonic():
                    await self._renew(agent_id, renew)

    def _until_next(self) -> float | None:
        dues = [changes.due for changes in self._changes.values() if changes.due is not None]
        return max(min(dues) - time.monotonic(), 0.0) if dues else None

    async def _renew(self, agent_id: str, renew: Callable[[AgentRecord, Cause], Awaitable[None]]) -> None:
        changes = self._changes.pop(agent_id)
        record = self._registry.find(agent_id)
        if record is None or record.package is None:
            return
        cause = Cause(actor="watch", command="restart", detail=_named(changes.files))
        try:
            await renew(record, cause)
        except DatabaseUnavailable as error:
            log.warning("watch_waits", agent=agent_id, reason=error.message)
            again = self._changes.setdefault(agent_id, changes)  # or more has changed meanwhile
            again.files |= changes.files
            again.due = time.monotonic() + _RETRY_S
        except OpmasError as error:  # registered anew this very moment: then it starts from the new files
            log.info("not_restarted", agent=agent_id, reason=error.message)


def _named(files: set[str]) -> str:
    names = sorted(files)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} changed"
