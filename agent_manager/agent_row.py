"""What an agent's row is to be: what its operator has given, and for the rest what its package says. Pure.

An operator's word on a field stands until he gives another; the package is asked for the rest, whenever it changes.
"""

import dataclasses
from typing import Any

from agent_manager.package import Package
from agent_manager.store import AgentRow
from opmas.wire.errors import InvalidRequest
from opmas.wire.manifest import Manifest, validate_config
from opmas.wire.messages import now
from opmas.wire.params import AgentFields, RegisterParams
from opmas.wire.status import Desired


def discovered(package: Package, manifest: Manifest) -> AgentRow:
    """An agent that nobody but its package has spoken of."""
    return _made(manifest.name, package, manifest)


def registered(
    agent_id: str, package: Package, manifest: Manifest, params: RegisterParams, tombstone: AgentRow | None
) -> AgentRow:
    """An agent as its operator registers it, which may have been deleted before. Raises `InvalidRequest`."""
    row = updated(_made(agent_id, package, manifest), params, manifest)
    row = dataclasses.replace(row, given=sorted({*row.given, "package"}))
    if tombstone is None:
        return row
    epoch, generation = tombstone.epoch, tombstone.generation + 1
    return dataclasses.replace(row, epoch=epoch, generation=generation, created_at=tombstone.created_at)


def refreshed(row: AgentRow, package: Package, manifest: Manifest, was: Manifest | None) -> AgentRow:
    """The agent after its package has changed; `was` is the manifest before, if that is known."""
    said = _said(manifest)
    if was is not None and was.replicas != manifest.replicas:
        said["replicas"] = manifest.replicas  # the author's newer word stands above an earlier `scale`
    said = {name: value for name, value in said.items() if name not in row.given}
    new = dataclasses.replace(row, package=package.folder.name, **said)
    return row if new == row else dataclasses.replace(new, updated_at=now())


def updated(row: AgentRow, params: AgentFields, manifest: Manifest | None) -> AgentRow:
    """The agent with what its operator gives now; the same row when that changes nothing.

    Raises `InvalidRequest` when the manifest's schema does not allow the config.
    """
    given = {name: getattr(params, name) for name in AgentFields.model_fields if getattr(params, name) is not None}
    if "config" in given:
        if manifest is None:
            raise InvalidRequest(
                f"cannot check the config of {row.id!r}: its package cannot be used",
                f"`opmas describe {row.id}` shows what is wrong with the package",
            )
        validate_config(manifest, given["config"])
    if params.access is not None:
        given["access"] = params.access.model_dump(mode="json")
    new = dataclasses.replace(row, **given, given=sorted({*row.given, *given}))
    return row if new == row else new


def _made(agent_id: str, package: Package, manifest: Manifest) -> AgentRow:
    return AgentRow(
        id=agent_id,
        package=package.folder.name,
        name=agent_id,
        desired=Desired.RUNNING if manifest.autostart else Desired.STOPPED,
        replicas=manifest.replicas,
        **_said(manifest),
    )


def _said(manifest: Manifest) -> dict[str, Any]:
    return {
        "type": manifest.type,
        "version": manifest.version,
        "description": manifest.description,
        "labels": dict(manifest.labels),
        "capabilities": list(manifest.capabilities),
        "access": manifest.access.model_dump(mode="json"),
    }
