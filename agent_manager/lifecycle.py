"""The life of an instance as one table: `(phase, event) -> (phase, action)`.

Pure on purpose: `instance.py` feeds it events and carries out its actions, so that every order of events can be tested
without a process. What is not in the table changes nothing: lost, doubled and late events are harmless.
"""

from enum import StrEnum
from typing import NamedTuple

from opmas.wire.status import AgentStatus


class Phase(StrEnum):
    """The manager's own word for where an instance is; never leaves the manager."""

    IDLE = "idle"
    """No process, and none asked for."""
    LAUNCHING = "launching"
    """The template has been asked for a process."""
    STARTING = "starting"
    """The process lives, but has not said it is ready."""
    RUNNING = "running"
    SILENT = "silent"
    """The process lives, its heartbeat does not come."""
    STOPPING = "stopping"
    """The process has been told to end."""
    WAITING = "waiting"
    """It ended; it will be launched again when the delay has passed."""
    FAILED = "failed"
    """It ended too often; an operator must start it."""
    FINISHED = "finished"
    """It ended of its own accord and is not to be launched again."""


class Event(StrEnum):
    """What can happen to an instance."""

    START = "start"
    """It is wanted."""
    STOP = "stop"
    """It is not wanted, or an older copy must make way."""
    LAUNCHED = "launched"
    ADOPTED = "adopted"
    """It was found alive by a new manager."""
    READY = "ready"
    """First sign of life."""
    BEAT = "beat"
    SILENCE = "silence"
    """No heartbeat for longer than its timeout."""
    HANG = "hang"
    """No heartbeat for as long again, or no readiness in time."""
    ENDED = "ended"
    """The process is gone and nothing remains to be done about it."""
    ENDED_RETRY = "ended_retry"
    """The process is gone; the restart policy says: again, after a delay."""
    ENDED_FAILED = "ended_failed"
    """The process is gone; the restart policy says: no more."""
    ENDED_WELL = "ended_well"
    """The process is gone with success; the restart policy says: leave it."""
    RETRY_DUE = "retry_due"


class Action(StrEnum):
    """What the shell has to do."""

    NONE = "none"
    LAUNCH = "launch"
    STOP = "stop"
    """Stop signal, grace, SIGKILL."""
    SCHEDULE = "schedule"
    """Arm the timer that brings `RETRY_DUE`."""
    CANCEL = "cancel"
    """Disarm it."""


class Transition(NamedTuple):
    """Where an event leads and what is to be done."""

    phase: Phase
    action: Action


_P, _E, _A = Phase, Event, Action

_PROCESS_ENDED = {
    _E.ENDED: Transition(_P.IDLE, _A.NONE),
    _E.ENDED_RETRY: Transition(_P.WAITING, _A.SCHEDULE),
    _E.ENDED_FAILED: Transition(_P.FAILED, _A.NONE),
    _E.ENDED_WELL: Transition(_P.FINISHED, _A.NONE),
}

_ALIVE = {**_PROCESS_ENDED, _E.STOP: Transition(_P.STOPPING, _A.STOP)}

_AT_REST = {
    _E.START: Transition(_P.LAUNCHING, _A.LAUNCH),
    _E.ADOPTED: Transition(_P.STARTING, _A.NONE),
    _E.STOP: Transition(_P.IDLE, _A.NONE),
}

TABLE: dict[Phase, dict[Event, Transition]] = {
    _P.IDLE: {_E.START: _AT_REST[_E.START], _E.ADOPTED: _AT_REST[_E.ADOPTED]},
    _P.LAUNCHING: {
        **_PROCESS_ENDED,
        _E.LAUNCHED: Transition(_P.STARTING, _A.NONE),
        # Nothing to signal yet: the stop is carried out when the process is there.
        _E.STOP: Transition(_P.STOPPING, _A.NONE),
    },
    _P.STARTING: {
        **_ALIVE,
        _E.READY: Transition(_P.RUNNING, _A.NONE),
        _E.HANG: Transition(_P.STARTING, _A.STOP),
    },
    _P.RUNNING: {**_ALIVE, _E.SILENCE: Transition(_P.SILENT, _A.NONE)},
    _P.SILENT: {
        **_ALIVE,
        _E.BEAT: Transition(_P.RUNNING, _A.NONE),
        _E.HANG: Transition(_P.SILENT, _A.STOP),
    },
    _P.STOPPING: {
        _E.LAUNCHED: Transition(_P.STOPPING, _A.STOP),
        # Whatever the restart policy thinks: it ended because it was told to.
        **dict.fromkeys(_PROCESS_ENDED, _PROCESS_ENDED[_E.ENDED]),
    },
    _P.WAITING: {
        _E.START: Transition(_P.LAUNCHING, _A.LAUNCH),
        _E.RETRY_DUE: Transition(_P.LAUNCHING, _A.LAUNCH),
        _E.STOP: Transition(_P.IDLE, _A.CANCEL),
    },
    _P.FAILED: _AT_REST,
    _P.FINISHED: _AT_REST,
}

_STATUS = {
    _P.IDLE: AgentStatus.STOPPED,
    _P.LAUNCHING: AgentStatus.STARTING,
    _P.STARTING: AgentStatus.STARTING,
    _P.RUNNING: AgentStatus.RUNNING,
    _P.SILENT: AgentStatus.INACTIVE,
    # It still runs; `reason` says that it is being stopped.
    _P.STOPPING: AgentStatus.RUNNING,
    _P.WAITING: AgentStatus.ERROR,
    _P.FAILED: AgentStatus.ERROR,
    _P.FINISHED: AgentStatus.STOPPED,
}

# Of several instances the one in the worst condition speaks for the agent.
_WORST_FIRST = (
    AgentStatus.ERROR,
    AgentStatus.INACTIVE,
    AgentStatus.STARTING,
    AgentStatus.RUNNING,
    AgentStatus.STOPPED,
)

ALIVE = frozenset({_P.STARTING, _P.RUNNING, _P.SILENT, _P.STOPPING})
"""Phases in which there is a process."""

SETTLED = frozenset({_P.IDLE, _P.RUNNING, _P.FAILED, _P.FINISHED})
"""Phases that do not pass by themselves."""


def step(phase: Phase, event: Event) -> Transition:
    """Look up what `event` does to an instance in `phase`; by default nothing."""
    return TABLE[phase].get(event, Transition(phase, Action.NONE))


def status_of(phase: Phase) -> AgentStatus:
    """Translate a phase into the public word."""
    return _STATUS[phase]


def worst(statuses: list[AgentStatus]) -> AgentStatus:
    """Sum up the statuses of an agent's instances; none at all is `stopped`."""
    return min(statuses, key=_WORST_FIRST.index, default=AgentStatus.STOPPED)
