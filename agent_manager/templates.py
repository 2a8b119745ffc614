"""The warm interpreters of this node: one per set of preloaded modules, made on first use, made again when it died.

An agent whose preload cannot be forked from (it starts threads) is executed instead; it is only slower.
"""

import asyncio
import dataclasses
import sys
from pathlib import Path

import structlog

from agent_manager.process.errors import PreloadRefused, SpawnFailed
from agent_manager.process.launcher import Template
from agent_manager.process.slot import Shim
from agent_manager.process.spec import InstanceSpec
from opmas.agent import PRELOAD
from opmas.wire.manifest import Manifest, Runtime

log = structlog.get_logger(__name__)

# What every instance's runtime needs, and what an Agno object needs besides (its offline run warms the code paths).
_AGNO_PRELOAD = ("opmas.agent.agno", "opmas.agent.agno:warm_up")


class Templates:
    """Gives every launch the template that fits it."""

    def __init__(self, run_dir: Path) -> None:
        self._log = run_dir / "template.log"
        self._warm: dict[tuple[str, ...], Template] = {}
        self._refused: dict[tuple[str, ...], PreloadRefused] = {}
        self._lock = asyncio.Lock()

    async def spawn(self, manifest: Manifest, spec: InstanceSpec) -> Shim:
        """Start an instance, forked when it can be. Raises `SpawnFailed` or `SlotBusy`."""
        preload = preload_of(manifest) if spec.entry else PRELOAD
        try:
            template = await self._warmed(preload)
        except PreloadRefused as refusal:
            log.warning("preload_refused", agent=spec.agent_id, reason=str(refusal), consequence="executed, not forked")
            argv = (sys.executable, "-m", "opmas.agent")
            spec = dataclasses.replace(spec, entry=(), argv=argv)
            template = await self._warmed(PRELOAD)
        try:
            return await template.spawn(spec)
        except SpawnFailed:
            # It may have died while it was asked; then, and only then, another one may have more luck.
            if not template.closed.is_set():
                raise
            return await (await self._warmed(preload if spec.entry else PRELOAD)).spawn(spec)

    async def warm(self, manifest: Manifest) -> None:
        """Have the template ready before it is asked for."""
        if manifest.runtime is not Runtime.EXEC:
            await self._warmed(preload_of(manifest))

    async def _warmed(self, preload: tuple[str, ...]) -> Template:
        async with self._lock:
            if preload in self._refused:
                raise self._refused[preload]
            template = self._warm.get(preload)
            if template is None or template.closed.is_set():
                try:
                    template = await Template.start(preload, self._log)
                except PreloadRefused as refusal:
                    self._refused[preload] = refusal
                    raise
                self._warm[preload] = template
            return template

    async def close(self) -> None:
        """End the templates; what was forked from them lives on."""
        for template in self._warm.values():
            await template.close()


def preload_of(manifest: Manifest) -> tuple[str, ...]:
    """The modules a template for this manifest imports before it forks."""
    agno = _AGNO_PRELOAD if manifest.runtime is Runtime.AGNO else ()
    return (*PRELOAD, *manifest.preload, *agno)
