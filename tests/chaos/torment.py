"""Who kills and freezes the processes of a node, by dice that fall the same way for the same seed."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from agent_manager.process.record import SlotState
from tests.node import Node, exists


@dataclass(frozen=True)
class Blow:
    """What was done to which process, from when to when (seconds since the epoch)."""

    victim: str
    pid: int
    frozen: bool
    since: float
    until: float

    def __str__(self) -> str:
        what = f"frozen for {self.until - self.since:.1f} s" if self.frozen else "killed"
        return f"{time.strftime('%H:%M:%S', time.localtime(self.since))}{self.since % 1:.2f} {self.victim} {what}"


class Tormentor:
    """Strikes each kind of process in turn, with SIGKILL or with SIGSTOP and SIGCONT, and remembers it."""

    def __init__(self, node: Node, agent_id: str, replicas: int, dice: random.Random, lease_s: float) -> None:
        self.node = node
        self.blows: list[Blow] = []
        self._agent_id = agent_id
        self._replicas = replicas
        self._dice = dice
        self._lease_s = lease_s

    def torment(self, enough: Callable[[], bool]) -> None:
        """Go on until it is enough."""
        for victim in cycle(("instance", "nats-server", "instance", "api", "instance", "manager")):
            if enough():
                return
            name, pid = self._choose(victim)
            if self._dice.random() < 0.5:
                self._kill(name, pid)
            else:
                self._freeze(name, pid)
            time.sleep(self._dice.uniform(0.1, 0.8))  # the chance that others act before the next blow

    def _choose(self, victim: str) -> tuple[str, int]:
        if victim != "instance":
            return victim, self.node.pid(victim)
        ordinal = self._dice.randrange(self._replicas)
        return f"{self._agent_id}-{ordinal}", instance_pid(self.node, self._agent_id, ordinal)

    def _kill(self, name: str, pid: int) -> None:
        now = time.time()
        if strike(pid, signal.SIGKILL):
            self.blows.append(Blow(name, pid, False, now, now))

    def _freeze(self, name: str, pid: int) -> None:
        # Now and then for longer than the lease, so that its runs are lost and it comes back nevertheless.
        long = self._dice.random() < 0.2
        seconds = self._lease_s * 1.3 if long else self._dice.uniform(0.1, 1.0)
        began = time.time()
        with frozen(pid):
            time.sleep(seconds)
        self.blows.append(Blow(name, pid, True, began, time.time()))

    def during(self, since: float, until: float) -> list[Blow]:
        """Return the blows of that time."""
        return [blow for blow in self.blows if blow.since <= until and blow.until >= since]


def instance_pid(node: Node, agent_id: str, ordinal: int) -> int:
    """Return the pid of the instance that lives in the slot, 0 when none does."""
    state = SlotState.load(node.home / "run" / agent_id / str(ordinal) / "state")
    if state is None or not exists(state.pid):
        return 0
    with contextlib.suppress(OSError):  # the record may be old, and its pid another's by now
        if f"opmas: {agent_id}-{ordinal}".encode() in Path(f"/proc/{state.pid}/cmdline").read_bytes():
            return state.pid
    return 0


def strike(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process if it is there."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
    return False


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process as long as the context lasts."""
    strike(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        strike(pid, signal.SIGCONT)
