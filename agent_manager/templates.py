"""The warm interpreters of this node: one per venv and set of preloaded modules, made on first use and when it died.

An agent whose preload cannot be forked from (it starts threads) is executed instead; it is only slower.
"""

import asyncio
import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from agent_manager.process.errors import PreloadRefused, SpawnFailed
from agent_manager.process.launcher import Template
from agent_manager.process.slot import Shim
from agent_manager.process.spec import InstanceSpec
from opmas.agent import PRELOAD
from opmas.agent.agno import PRELOAD as AGNO_PRELOAD
from opmas.agent.models import modules_of
from opmas.wire.manifest import AgnoStore, Manifest, Runtime

log = structlog.get_logger(__name__)

_AGNO_WARM_UP = "opmas.agent.agno:warm_up"
_AGNO_STORE = "opmas.agent.agno.store"
# Also what executes the agents that cannot be forked: one template for both.
_REHEARSAL = "opmas.agent.rehearsal:rehearse"
_PLAIN = (sys.executable, *PRELOAD, _REHEARSAL)


class Templates:
    """Gives every launch the template that fits it."""

    def __init__(
        self, run_dir: Path, on_refusal: Callable[[str, PreloadRefused], None] = lambda _agent_id, _refusal: None
    ) -> None:
        self._on_refusal = on_refusal
        self._log = run_dir / "template.log"
        # By interpreter and preload.
        self._warm: dict[tuple[str, ...], Template] = {}
        self._refused: dict[tuple[str, ...], PreloadRefused] = {}
        self._lock = asyncio.Lock()

    async def spawn(
        self, manifest: Manifest, spec: InstanceSpec, models: Iterable[str], python: str = sys.executable
    ) -> Shim:
        """Start an instance, forked when it can be; the providers of its `models` (`provider:id`) are to be warm.

        Raises `SpawnFailed` or `SlotBusy`.
        """
        wanted = (python, *preload_of(manifest, models)) if spec.entry else _PLAIN
        try:
            template = await self._warmed(*wanted)
        except PreloadRefused as refusal:
            log.warning("preload_refused", agent=spec.agent_id, reason=str(refusal), consequence="executed, not forked")
            self._on_refusal(spec.agent_id, refusal)
            argv = (python, "-m", "opmas.agent")
            spec = dataclasses.replace(spec, entry=(), argv=argv)
            template = await self._warmed(*_PLAIN)
        try:
            return await template.spawn(spec)
        except SpawnFailed:
            # It may have died while it was asked; then, and only then, another one may have more luck.
            if not template.closed.is_set():
                raise
            return await (await self._warmed(*(wanted if spec.entry else _PLAIN))).spawn(spec)

    async def _warmed(self, python: str, *preload: str) -> Template:
        async with self._lock:
            key = (python, *preload)
            if key in self._refused:
                raise self._refused[key]
            template = self._warm.get(key)
            if template is None or template.closed.is_set():
                try:
                    template = await Template.start(preload, self._log, python)
                except PreloadRefused as refusal:
                    self._refused[key] = refusal
                    raise
                self._warm[key] = template
            return template

    async def forget(self, venv: Path) -> None:
        """End the templates of a venv that is no more."""
        python = str(venv / "bin" / "python")
        self._refused = {key: refusal for key, refusal in self._refused.items() if key[0] != python}
        for key in [key for key in self._warm if key[0] == python]:
            await self._warm.pop(key).close()

    async def close(self) -> None:
        """End the templates; what was forked from them lives on."""
        for template in self._warm.values():
            await template.close()


def preload_of(manifest: Manifest, models: Iterable[str]) -> tuple[str, ...]:
    """The modules a template for this manifest imports before it forks."""
    if manifest.runtime is not Runtime.AGNO:
        return tuple(dict.fromkeys((*PRELOAD, *manifest.preload, _REHEARSAL)))
    store = (_AGNO_STORE,) if manifest.agno_store is AgnoStore.SQLITE else ()
    return tuple(dict.fromkeys((*AGNO_PRELOAD, *manifest.preload, *_providers(models), *store, _AGNO_WARM_UP)))


def _providers(models: Iterable[str]) -> list[str]:
    """Agno's modules for these models; in the same order whichever was listed first, so that templates are shared."""
    return sorted({module for model in models for module in modules_of(model) if _exists(module)})


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of a module above it, which wants a library that is not there
        return False
