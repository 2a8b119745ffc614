"""Who kills and freezes the processes of a node, by dice that fall the same way for the same seed."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
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
        return f"{datetime.fromtimestamp(self.since, UTC):%H:%M:%S.%f} {self.victim} {what}"


class Tormentor:
    """Strikes each of its victims in turn, with SIGKILL or with SIGSTOP and SIGCONT, and remembers it.

    Victims are names, each with a function that finds its pid now, 0 while it has none.
    """

    def __init__(self, victims: Mapping[str, Callable[[], int]], dice: random.Random, lease_s: float) -> None:
        self.blows: list[Blow] = []
        self._victims = victims
        self._dice = dice
        self._lease_s = lease_s

    def torment(self, enough: Callable[[], bool]) -> None:
        """Go on until it is enough."""
        for name, find in cycle(self._victims.items()):
            if enough():
                return
            if self._dice.random() < 0.5:
                self._kill(name, find())
            else:
                self._freeze(name, find())
            time.sleep(self._dice.uniform(0.1, 0.8))  # the chance that others act before the next blow

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


def victims_of(node: Node, agent_id: str, replicas: int) -> dict[str, Callable[[], int]]:
    """Name what carries the agent's runs on a node, a server after each instance."""
    servers = cycle(("nats-server", "api", "manager"))
    found: dict[str, Callable[[], int]] = {}
    for ordinal, server in zip(range(replicas), servers, strict=False):
        found[f"{agent_id}-{ordinal}"] = partial(instance_pid, node, agent_id, ordinal)
        found[server] = partial(node.pid, server)
    return found


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
