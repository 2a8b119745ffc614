"""Every agent this node knows, with what is wanted of it and the instances it has.

Holds facts only: `reconcile.py` compares them, `supervisor.py` acts on them, `recorder.py` writes them down.
"""

import asyncio
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from agent_manager.instance import Instance
from agent_manager.lifecycle import Phase, worst
from agent_manager.package import Package
from agent_manager.process.slot import Slot
from agent_manager.store.rows import AgentRow
from opmas.wire.errors import AgentNotFound, PackageInvalid
from opmas.wire.manifest import Manifest
from opmas.wire.runs import RunSpec
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import Access, AgentView, Cause

# A stranger's number may be longer than Python is willing to read.
_ORDINAL_DIGITS = 10


@dataclass(slots=True, eq=False)
class AgentRecord:
    """One agent: what its operator wants (`row`), what is on disk (`package`), what lives (`instances`)."""

    row: AgentRow
    package: Package | None
    instances: dict[int, Instance] = field(default_factory=dict)
    # Changes of one agent's desired status are made one after the other.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Who last changed what is wanted; the cause of what reconcile does about it.
    cause: Cause = field(default_factory=lambda: Cause(actor="manager", command="start"))
    waiting_for: str = ""
    # The agent that `waiting_for` is about.
    waiting_on: str = ""
    # Its package was taken away while we watched: it is to stop, and then to be forgotten.
    removed: bool = False
    published: AgentStatus | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """The agent's id."""
        return self.row.id

    @property
    def wanted(self) -> bool:
        """Whether instances of it should run."""
        return self.row.enabled and self.row.desired is Desired.RUNNING and not self.removed

    @property
    def status(self) -> AgentStatus:
        """The agent's status: that of its instance in the worst condition."""
        if self.waiting_for and not any(instance.alive for instance in self.instances.values()):
            return AgentStatus.STARTING
        if self.wanted and self.package is not None and self.package.manifest is None and not self.alive:
            return AgentStatus.ERROR
        return worst([instance.status for instance in self.instances.values()])

    @property
    def alive(self) -> bool:
        """Whether any instance has a process."""
        return any(instance.alive for instance in self.instances.values())

    @property
    def busy(self) -> bool:
        """Whether any instance has a process, or is about to."""
        return any(instance.alive or instance.phase is Phase.LAUNCHING for instance in self.instances.values())

    @property
    def reason(self) -> str:
        """Why it is what it is, in a sentence; empty when all is well."""
        if self.waiting_for:
            return self.waiting_for
        if self.package is None:
            return f"its package folder {self.row.package!r} is gone"
        if self.package.error is not None:
            return self.package.error.message
        return next((i.reason for i in self.ordered() if i.reason and i.status is self.status), "")

    def ordered(self) -> list[Instance]:
        """The instances by ordinal."""
        return [self.instances[ordinal] for ordinal in sorted(self.instances)]

    def manifest(self) -> Manifest:
        """What the package says of the agent. Raises `PackageInvalid` when it says nothing usable."""
        if self.package is None:
            raise PackageInvalid(
                f"cannot start {self.id!r}: its package folder {self.row.package!r} is gone",
                "put the folder back, or delete the agent",
            )
        if self.package.manifest is None or self.package.error is not None:
            error = self.package.error
            raise PackageInvalid(
                f"cannot start {self.id!r}: {error.message if error else 'its package is broken'}",
                error.hint if error else "",
            )
        return self.package.manifest

    def manifest_of(self, instance: Instance) -> Manifest | None:
        """What the instance's process was launched from, as far as that is known; else what the package says now."""
        return instance.manifest or (self.package.manifest if self.package is not None else None)

    def forgive(self) -> None:
        """Let instances that gave up, or wait for their next try, start again at once."""
        for instance in self.instances.values():
            if instance.phase in {Phase.WAITING, Phase.FAILED, Phase.FINISHED}:
                instance.epoch = -1

    def notify(self) -> None:
        """Wake everyone who waits for a change of this agent."""
        self.changed.set()
        self.changed = asyncio.Event()

    def view(self) -> AgentView:
        """What the world sees of it."""
        row = self.row
        manifest = self.package.manifest if self.package is not None else None
        return AgentView(
            id=row.id,
            name=row.name,
            type=row.type,
            version=row.version,
            description=row.description,
            package=row.package,
            status=self.status,
            desired=row.desired,
            enabled=row.enabled,
            replicas=row.replicas,
            capabilities=tuple(row.capabilities),
            config=row.config,
            labels=row.labels,
            access=Access.model_validate(row.access),
            instances=tuple(instance.view() for instance in self.ordered()),
            runs=manifest.run_spec() if manifest is not None else RunSpec(),
            reason=self.reason,
            next_retry_at=self.next_retry_at(),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    def next_retry_at(self) -> datetime | None:
        """When the first of its waiting instances is launched again."""
        return min((i.next_retry_at for i in self.instances.values() if i.next_retry_at), default=None)


class AgentRegistry:
    """The agents of this node by id, and where their slots are."""

    def __init__(self, node: str, run_dir: Path) -> None:
        self.node = node
        self.run_dir = run_dir
        self._agents: dict[str, AgentRecord] = {}
        self._tokens: dict[str, Instance] = {}
        self._dependents: dict[str, set[str]] = {}
        # Folder by folder, the agents that an operator has registered himself.
        self._by_hand: dict[str, set[str]] = {}

    def __iter__(self) -> Iterator[AgentRecord]:
        """Every agent, by id; safe against changes while iterating."""
        return iter([self._agents[agent_id] for agent_id in sorted(self._agents)])

    def __len__(self) -> int:
        return len(self._agents)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._agents

    def find(self, agent_id: str) -> AgentRecord | None:
        """Look an agent up that may not be there."""
        return self._agents.get(agent_id)

    def get(self, agent_id: str) -> AgentRecord:
        """Look an agent up. Raises `AgentNotFound` with the nearest id as a hint."""
        record = self._agents.get(agent_id)
        if record is None:
            close = difflib.get_close_matches(agent_id, self._agents, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise AgentNotFound(f"there is no agent {agent_id!r}", f"{hint}`opmas ls` lists the agents")
        return record

    def add(self, row: AgentRow, package: Package | None) -> AgentRecord:
        """Register an agent, or give a registered one its new row and package."""
        record = self._agents.get(row.id)
        if record is None:
            record = self._agents[row.id] = AgentRecord(row, package)
        else:
            record.row, record.package = row, package
        self._index(record)
        return record

    def remove(self, agent_id: str) -> None:
        """Forget an agent that has no instance left."""
        record = self._agents.pop(agent_id, None)
        if record is None:
            return
        self._by_hand.get(record.row.package, set()).discard(agent_id)
        for instance in record.instances.values():
            self._tokens.pop(instance.token, None)

    def made_from(self, package: Package) -> list[AgentRecord]:
        """The agents of a package: the one of its name, and those that an operator has registered from its folder."""
        ids = {*self._by_hand.get(package.folder.name, ())}
        named = self._agents.get(package.name)
        if named is not None and not named.row.by_hand:
            ids.add(named.id)
        return [self._agents[agent_id] for agent_id in sorted(ids)]

    def instances(self) -> list[Instance]:
        """Every instance of every agent."""
        return [instance for record in self._agents.values() for instance in record.instances.values()]

    def instance(self, record: AgentRecord, ordinal: int) -> Instance:
        """The instance of that ordinal, made on first use."""
        if ordinal not in record.instances:
            slot = Slot(self.run_dir / record.id / str(ordinal))
            record.instances[ordinal] = Instance(record.id, ordinal, self.node, slot)
        return record.instances[ordinal]

    def retire(self, record: AgentRecord, instance: Instance) -> None:
        """Forget an instance that has no process and is not to have one."""
        record.instances.pop(instance.ordinal, None)
        self._tokens.pop(instance.token, None)

    def find_instance(self, agent_id: str, instance_id: str) -> Instance | None:
        """The instance of that name, if it is one of this agent's; a lone instance needs no name."""
        record = self._agents.get(agent_id)
        if record is None:
            return None
        if not instance_id:
            return next(iter(record.instances.values())) if len(record.instances) == 1 else None
        ordinal = instance_id.removeprefix(f"{agent_id}-")
        number = int(ordinal) if ordinal.isascii() and ordinal.isdigit() and len(ordinal) < _ORDINAL_DIGITS else -1
        return record.instances.get(number)

    def bind_token(self, instance: Instance, token: str) -> None:
        """Remember which instance proves itself with `token`; its former token proves nothing any more."""
        self._tokens.pop(instance.token, None)
        instance.token = token
        self._tokens[token] = instance

    def token_owner(self, token: str) -> Instance | None:
        """The instance that `token` was given to."""
        return self._tokens.get(token)

    def dependents(self, agent_id: str) -> list[AgentRecord]:
        """The agents whose manifests say that they depend on this one."""
        return [self._agents[other] for other in sorted(self._dependents.get(agent_id, ())) if other in self._agents]

    def _index(self, record: AgentRecord) -> None:
        if record.row.by_hand:
            self._by_hand.setdefault(record.row.package, set()).add(record.id)
        for others in self._dependents.values():
            others.discard(record.id)
        manifest = record.package.manifest if record.package is not None else None
        for needed in manifest.depends_on if manifest is not None else ():
            self._dependents.setdefault(needed, set()).add(record.id)
