"""Compares what is wanted with what lives, and asks the supervisor for the difference. Level-triggered: run any time.

Dependencies start in order (`depends_on`) and stop in reverse: an agent is started when those it needs are there, and
stopped when those that need it and are going too are gone.
"""

from collections.abc import Callable, Iterator

from agent_manager.instance import Instance
from agent_manager.lifecycle import Event, Phase
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.supervisor import Supervisor
from opmas.wire.errors import PackageInvalid
from opmas.wire.manifest import DependencyCondition
from opmas.wire.status import AgentStatus
from opmas.wire.views import Cause

_GONE = Cause(actor="manager", detail="its package is gone")


class Reconciler:
    """Makes it so, agent by agent."""

    def __init__(self, registry: AgentRegistry, supervisor: Supervisor, on_look: Callable[[AgentRecord], None]) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._on_look = on_look
        self.draining = False
        """Whether nothing is wanted any more, because the manager is going."""

    def wanted(self, record: AgentRecord) -> bool:
        """Whether instances of this agent should be running now."""
        return record.wanted and not self.draining

    def reconcile_all(self) -> None:
        """Look at every agent."""
        for record in self._registry:
            self.reconcile(record)

    def reconcile(self, record: AgentRecord) -> None:
        """Start what is missing and stop what is too much, for one agent."""
        count = record.row.replicas if self.wanted(record) else 0
        cause = _GONE if record.removed else record.cause
        record.waiting_for = record.waiting_on = ""
        if count:
            self._start_missing(record, count, cause)
        for instance in record.ordered():
            if instance.ordinal >= record.row.replicas and instance.phase is Phase.IDLE:
                self._supervisor.retire(record, instance)
            elif instance.ordinal >= count:
                self._stop(record, instance, cause)
            elif instance.alive and instance.epoch < record.row.epoch and self._may_start(record):
                self._supervisor.apply(record, instance, Event.STOP, cause)
        self._on_look(record)

    def _start_missing(self, record: AgentRecord, count: int, cause: Cause) -> None:
        if not self._may_start(record):
            return
        for ordinal in range(count):
            instance = self._registry.instance(record, ordinal)
            resting = instance.phase is Phase.IDLE
            outdated = instance.phase in {Phase.WAITING, Phase.FAILED, Phase.FINISHED}
            if resting or (outdated and instance.epoch < record.row.epoch):
                if blocked := self._blocked(record):
                    record.waiting_on, record.waiting_for = blocked
                    return
                if instance.epoch < record.row.epoch:  # somebody's word: its crashes are another series
                    instance.crashes.clear()
                self._supervisor.apply(record, instance, Event.START, cause)

    def _may_start(self, record: AgentRecord) -> bool:
        try:
            record.manifest()
        except PackageInvalid:
            # The agent shows its package's error; what runs of it goes on as it is.
            return False
        return True

    def _blocked(self, record: AgentRecord) -> tuple[str, str] | None:
        """The agent that must be there first, and the sentence that says so."""
        for name, dependency in record.manifest().depends_on.items():
            needed = self._registry.find(name)
            if needed is None:
                return name, f"waiting for agent {name!r}, which is not registered"
            if dependency.condition is DependencyCondition.HEALTHY:
                there = needed.status is AgentStatus.RUNNING
            else:
                there = needed.alive
            if not there:
                return name, f"waiting for agent {name!r} to be {dependency.condition.value}"
        return None

    def _stop(self, record: AgentRecord, instance: Instance, cause: Cause) -> None:
        if instance.phase in {Phase.IDLE, Phase.STOPPING}:
            return
        if self.draining and instance.phase in {Phase.FAILED, Phase.FINISHED}:
            return  # the next manager is to know that it had given up, or was done
        if any(not self.wanted(other) and other.busy for other in self._registry.dependents(record.id)):
            return
        self._supervisor.apply(record, instance, Event.STOP, cause)


def needs(record: AgentRecord, registry: AgentRegistry) -> Iterator[AgentRecord]:
    """Every agent that must be wanted for this one to start, once, itself last.

    Raises `PackageInvalid` on a circle.
    """
    yield from _needs(record, registry, (), set())


def _needs(
    record: AgentRecord, registry: AgentRegistry, path: tuple[str, ...], done: set[str]
) -> Iterator[AgentRecord]:
    if record.id in path:
        circle = " -> ".join((*path[path.index(record.id) :], record.id))
        raise PackageInvalid(f"cannot start {path[0]!r}: depends_on goes in a circle: {circle}", "break the circle")
    for name in record.manifest().depends_on:
        needed = registry.find(name)
        if needed is not None and name not in done:
            yield from _needs(needed, registry, (*path, record.id), done)
    done.add(record.id)
    yield record
