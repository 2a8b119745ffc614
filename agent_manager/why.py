"""Why an agent is what it is: the shortest chain of causes, from what is known of it and what happened to it. Pure.

First what was wanted of the agent is looked at, then its package, then what it waits for, and last its instances: the
first that keeps it from running, or the instance in the worst condition, is the cause.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent_manager.causes import FINE, code_of, hint_for, step_of, what_became
from agent_manager.ending import FINAL
from agent_manager.instance import Instance
from agent_manager.lifecycle import Phase
from agent_manager.registry import AgentRecord, AgentRegistry
from opmas.wire.manifest import OnHang, RestartCondition
from opmas.wire.status import Desired
from opmas.wire.views import EventView, Step, WhyView

_WORST_FIRST = (
    Phase.FAILED,
    Phase.WAITING,
    Phase.SILENT,
    Phase.STOPPING,
    Phase.IDLE,
    Phase.LAUNCHING,
    Phase.STARTING,
    Phase.RUNNING,
    Phase.FINISHED,
)
_COMINGS = frozenset({"enabled", "registered", "package_registered"})
_STARTS = frozenset({"start", "restart"})
_NEVER = ("never_started", "does not start by itself (`autostart: false`)")


@dataclass(frozen=True, slots=True)
class _Case:
    """What there is to judge by: the agent, its neighbours, its events from old to new."""

    record: AgentRecord
    registry: AgentRegistry
    events: Sequence[EventView]

    @property
    def id(self) -> str:
        return self.record.id

    def last(self, *kinds: str, command: str = "") -> EventView | None:
        """The latest event of one of these kinds, and of this command."""
        found = (e for e in reversed(self.events) if e.kind in kinds and command in {"", e.cause.command})
        return next(found, None)

    def end_of(self, instance: Instance) -> EventView | None:
        """How the instance last ended."""
        return next((e for e in reversed(self.events) if e.instance_id == instance.id and e.cause.code), None)

    def is_later(self, one: EventView | None, other: EventView | None) -> bool:
        """Whether `one` came after `other`; by place, as what is not saved yet has no id."""
        if one is None or other is None:
            return one is not None
        return self.events.index(one) > self.events.index(other)

    def start(self) -> list[Step]:
        """Who wanted the agent to run, and who has scaled it since, if that is on record."""
        comings = (
            event
            for event in reversed(self.events)
            if event.kind in _COMINGS or (event.kind == "ordered" and event.cause.command in _STARTS)
        )
        start, scaling = next(comings, None), self.last("ordered", command="scale")
        return _steps(start) + (_steps(scaling) if self.is_later(scaling, start) else [])


@dataclass(frozen=True, slots=True)
class _Answer:
    code: str
    summary: str
    hint: str = ""
    steps: Sequence[Step] = ()
    last_lines: tuple[str, ...] = ()
    next_retry_at: datetime | None = None


def explain(record: AgentRecord, registry: AgentRegistry, events: Sequence[EventView], *, missing: str = "") -> WhyView:
    """Explain an agent's status. `events` are its own, oldest first; `missing` says why there may be too few."""
    case = _Case(record, registry, events)
    answer = _unwanted(case) or _unusable(case) or _blocked(case) or _of_instances(case)
    gap = [Step(actor="manager", what=f"what happened before is not known here: {missing}")] if missing else []
    return WhyView(
        agent_id=record.id,
        status=record.status,
        code=answer.code,
        summary=answer.summary,
        hint=answer.hint,
        steps=(*gap, *answer.steps),
        next_retry_at=answer.next_retry_at,
        last_lines=answer.last_lines,
    )


# --- what is wanted of it --------------------------------------------------------------------------------------------


def _unwanted(case: _Case) -> _Answer | None:
    """It is not to run."""
    record, row = case.record, case.record.row
    if record.wanted and row.replicas:
        return None
    if not record.busy and (record.removed or record.package is None):
        return _package_gone(case)
    order = case.last("package_removed") if record.removed else _order_against(case)
    steps = _steps(order)
    by = f" by {order.cause.actor}" if order is not None and order.cause.actor else ""
    if record.busy:
        return _stopping(case, by, steps)
    if not row.enabled:
        return _Answer("disabled", f"{case.id} was disabled{by}", f"`opmas enable {case.id}` lets it run again", steps)
    if row.desired is Desired.RUNNING:
        hint = f"`opmas scale {case.id} 1` starts one"
        return _Answer("scaled_to_zero", f"{case.id} was scaled to no instances{by}", hint, steps)
    code, what = ("stopped_by_command", f"was stopped{by}") if order is not None else _NEVER
    return _Answer(code, f"{case.id} {what}", f"`opmas start {case.id}` starts it", steps)


def _order_against(case: _Case) -> EventView | None:
    """The command because of which it is not to run."""
    row = case.record.row
    if not row.enabled:
        return case.last("disabled") or case.last("updated", "registered")
    if row.desired is Desired.STOPPED:
        return case.last("ordered", command="stop") or case.last("ordered", command="delete")
    return case.last("ordered", command="scale") or case.last("updated", "registered")


def _stopping(case: _Case, by: str, steps: list[Step]) -> _Answer:
    record = case.record
    left = [instance for instance in record.ordered() if instance.alive or instance.phase is Phase.LAUNCHING]
    grace = max((m.stop_grace_period for m in map(record.manifest_of, left) if m is not None), default=0.0)
    return _Answer(
        "stopping",
        f"{case.id} is being stopped{by}: {_these(left)} not ended yet",
        f"what has not ended {grace:g} s after its stop signal is killed",
        steps,
    )


# --- its package -----------------------------------------------------------------------------------------------------


def _unusable(case: _Case) -> _Answer | None:
    """Its package cannot be used, and nothing of it lives from before."""
    record = case.record
    if record.busy:
        return None
    if record.package is None:
        return _package_gone(case)
    error = record.package.error
    if error is None:
        return None
    code = "permission_refused" if error.code == "permission_denied" else "package_broken"
    steps = _steps(case.last("package_broken"))
    return _Answer(code, f"{case.id} cannot be started: {error.message}", error.hint, steps)


def _package_gone(case: _Case) -> _Answer:
    return _Answer(
        "package_gone",
        f"{case.id} cannot run: its package folder {case.record.row.package!r} is gone",
        "put the folder back, or delete the agent",
        _steps(case.last("package_removed")),
    )


# --- what it waits for -----------------------------------------------------------------------------------------------


def _blocked(case: _Case) -> _Answer | None:
    """Another agent has to be there first."""
    record = case.record
    if not record.waiting_for or record.alive:
        return None
    path = _path_to_root(record, case.registry)
    root_id = path[-1]
    if root_id in path[:-1]:
        circle = " -> ".join(path[path.index(root_id) :])
        summary = f"{case.id} cannot start: depends_on goes in a circle: {circle}"
        return _Answer("circle", summary, "take one of them out of `depends_on`", case.start())
    root = case.registry.find(root_id)
    if root is None:
        step = Step(what=f"there is no agent {root_id!r}")
        hint = f"put its package in place, or take {root_id!r} out of `depends_on`"
    else:
        step = Step(what=f"{root.id} is {root.status.value}" + (f": {root.reason}" if root.reason else ""))
        hint = f"`opmas describe {root.id}` shows what is wrong there"
    between = [Step(what=f"{each} waits for {needed}") for each, needed in itertools.pairwise(path)]
    return _Answer("waiting_for_dependency", f"{case.id} is {record.waiting_for}", hint, [step, *reversed(between)])


def _path_to_root(record: AgentRecord, registry: AgentRegistry) -> list[str]:
    """From this agent to the one that keeps it waiting in the end, or to the first that is met for the second time."""
    path = [record.id]
    current: AgentRecord | None = record
    while current is not None and current.waiting_on:
        path.append(current.waiting_on)
        if current.waiting_on in path[:-1]:
            break
        current = registry.find(current.waiting_on)
    return path


# --- its instances ---------------------------------------------------------------------------------------------------


def _of_instances(case: _Case) -> _Answer:
    instances = case.record.ordered()
    if not instances:
        return _Answer("starting", f"{case.id} is about to be started", steps=case.start())
    worst = min(instances, key=lambda instance: _WORST_FIRST.index(instance.phase))
    match worst.phase:
        case Phase.FAILED | Phase.WAITING:
            return _ended_badly(case, worst)
        case Phase.SILENT:
            return _silent(case, worst)
        case Phase.RUNNING:
            return _running(case)
        case Phase.FINISHED:
            return _finished(case, worst)
        case _:
            return _on_its_way(case, worst)


def _ended_badly(case: _Case, instance: Instance) -> _Answer:
    end = case.end_of(instance)
    lines = end.cause.last_lines if end is not None else ()
    code = code_of(end, instance)
    what, hint = f"{instance.id} {what_became(code, instance)}", hint_for(code, case.id)
    steps = [*case.start(), *_steps(end)]
    if instance.phase is Phase.WAITING:
        again = case.record.next_retry_at()
        return _Answer(code, f"{what}; it will be started again", hint, steps, lines, again)
    manifest = case.record.manifest_of(instance)
    if manifest is not None and manifest.restart.condition is RestartCondition.NEVER:
        return _Answer(code, f"{what}; `restart` is `never`", hint, steps, lines)
    if code in FINAL:
        return _Answer(code, what, hint, steps)
    summary = f"{what}, again and again, and was given up"
    return _Answer("crash_loop", summary, f"{hint}; then `opmas start {case.id}`", steps, lines)


def _silent(case: _Case, instance: Instance) -> _Answer:
    manifest = case.record.manifest_of(instance)
    if manifest is not None and manifest.on_hang is OnHang.IGNORE:
        hint = f"its `on_hang` is `ignore`: `opmas restart {case.id}` ends it"
    else:
        hint = "when it has been silent for as long again, it is killed and started anew"
    silence = next((e for e in reversed(case.events) if e.instance_id == instance.id), None)
    return _Answer("silent", f"{instance.id} lives, but says nothing: {instance.reason}", hint, _steps(silence))


def _running(case: _Case) -> _Answer:
    record = case.record
    refusal = case.last("preload_refused")
    if any(refusal is not None and case.is_later(refusal, case.end_of(i)) for i in record.ordered()):
        return _Answer(
            "preload_refused",
            f"{case.id} runs, but is executed and not forked: it starts slower and needs more memory",
            "take the module out of `preload`",
            [*case.start(), *_steps(refusal)],
        )
    for instance in record.ordered():
        end = case.end_of(instance)
        if end is not None and end.cause.code not in FINE and case.is_later(end, case.last("ordered")):
            return _replaced(case, instance, end)
    unusable = record.package is None or record.package.manifest is None
    hint = f"it could not be started again as things are: {record.reason}" if unusable else ""
    return _Answer("running", f"{case.id} runs: {_these(record.ordered())} ready", hint, case.start())


def _replaced(case: _Case, instance: Instance, end: EventView) -> _Answer:
    """The process took the place of one that failed, and nobody has commanded anything since."""
    code = code_of(end, instance)
    anew = Step(time=instance.started_at, actor="manager", what=f"{instance.id} was started again")
    return _Answer(
        "restarted",
        f"{case.id} runs again: {instance.id} {what_became(code, instance)}, and was started anew",
        hint_for(code, case.id),
        [step_of(end), anew],
        end.cause.last_lines,
    )


def _finished(case: _Case, instance: Instance) -> _Answer:
    code = instance.last_exit.exit_code if instance.last_exit is not None else None
    return _Answer(
        "completed",
        f"{instance.id} has done its work and ended with exit code {code}",
        f"`opmas start {case.id}` runs it once more; with `restart: always` it runs again and again",
        [*case.start(), *_steps(case.end_of(instance))],
    )


def _on_its_way(case: _Case, instance: Instance) -> _Answer:
    end, order = case.end_of(instance), case.last("ordered")
    manifest = case.record.manifest_of(instance)
    patience = f"it has {manifest.start_timeout:g} s to say that it is ready" if manifest is not None else ""
    failed = end is not None and end.cause.code not in FINE and case.is_later(end, order)
    if failed and end is not None:
        code = code_of(end, instance)
        summary = f"{instance.id} is being started again: it {what_became(code, instance)}"
        return _Answer("starting", summary, patience, [step_of(end)], end.cause.last_lines)
    if order is not None and order.cause.command == "restart":
        return _Answer("restarting", f"{case.id} is being restarted by {order.cause.actor}", patience, [step_of(order)])
    doing = f"is {instance.reason}" if instance.reason else "is being started"
    return _Answer("starting", f"{instance.id} {doing} and is not ready yet", patience, case.start())


def _steps(event: EventView | None) -> list[Step]:
    return [] if event is None else [step_of(event)]


def _these(instances: Sequence[Instance]) -> str:
    return f"{instances[0].id} is" if len(instances) == 1 else f"{len(instances)} instances are"
