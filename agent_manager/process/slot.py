"""The manager's side of a slot: who lives there, how the last one ended, who was left behind.

A slot is a folder, `run/{agent}/{ordinal}/` {lock, state, exit, log}; its shim is the only one to write there. What
looks at every process (`lock_holders`, `strays`, `sweep_strays`) takes milliseconds: call it in a thread.
"""

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path

from agent_manager.process import procfs, strays
from agent_manager.process.logfile import LogReader
from agent_manager.process.record import SlotExit, SlotState


class Slot:
    """One place for one instance. The lock belongs to it, so that a second copy of the instance cannot exist."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def log(self) -> LogReader:
        """The instance's output."""
        return LogReader(self.path / "log")

    def read_state(self) -> SlotState | None:
        """Say who lives or last lived here."""
        return SlotState.load(self.path / "state")

    def read_exit(self) -> SlotExit | None:
        """Say how the last instance ended; None while one lives, or when its shim was killed."""
        return SlotExit.load(self.path / "exit")

    def adopt(self) -> "Shim | None":
        """Take over the instance that lives here, whoever started it; None when there is none."""
        state = self.read_state()
        if state is None or state.boot_id != procfs.boot_id():
            return None
        shim = Shim(self, state)
        return shim if shim.alive else None

    def lock_holders(self) -> list[int]:
        """List the processes that hold the lock: a shim, its instance, and forks of it that outlived both."""
        return strays.lock_holders([self.path])

    def strays(self) -> list[int]:
        """List the processes that belong to this slot, a living shim among them."""
        return strays.find([self.path])

    def sweep_strays(self) -> list[int]:
        """Kill all that belongs to this slot, until none is left; returns whom. Raises TimeoutError after 5 s.

        For a slot without a living shim: it does not spare one.
        """
        return strays.sweep([self.path])


class Shim:
    """A handle on a living shim, and through it on its instance. Closing it ends neither."""

    def __init__(self, slot: Slot, state: SlotState) -> None:
        self.slot = slot
        self.state = state
        self._pidfd = _open_process(state.shim_pid, state.shim_start_ticks)
        self._gone = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        if self._pidfd is None:
            self._gone.set()

    @property
    def pid(self) -> int:
        """The shim's own pid; the instance's is `state.pid`."""
        return self.state.shim_pid

    @property
    def alive(self) -> bool:
        """Say whether the handle refers to a process; one that has ended counts until `wait` has noticed."""
        return self._pidfd is not None

    async def wait(self) -> SlotExit | None:
        """Wait until the instance and all it started are gone; None when the shim died without a record of it."""
        if self._pidfd is not None and self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._pidfd, self._on_gone)
        await self._gone.wait()
        found = self.slot.read_exit()
        return found if found is not None and found.start_count == self.state.start_count else None

    def stop(self) -> None:
        """Stop the instance: its stop signal, its grace, then the end of all it started. A second call hurries."""
        self._signal_shim(signal.SIGTERM)

    def kill(self) -> None:
        """End the instance and all it started at once."""
        self._signal_shim(signal.SIGUSR1)
        self._signal_shim(signal.SIGCONT)

    def signal_instance(self, signum: int) -> None:
        """Send a signal to the instance alone; does nothing when it is gone."""
        pidfd = _open_process(self.state.pid, self.state.start_ticks)
        if pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signum)
            os.close(pidfd)

    def close(self) -> None:
        """Let go of the processes; who still waits is woken."""
        self._on_gone()

    def _on_gone(self) -> None:
        if self._pidfd is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        self._gone.set()

    def _signal_shim(self, signum: int) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)


def _open_process(pid: int, ticks: int) -> int | None:
    """Open a pidfd on the process that had `pid` when `ticks` were counted; None when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Checked after opening: from here on the pid cannot pass to another without our seeing it. A zombie is gone.
    if procfs.start_ticks(pid) == ticks and not select.select([pidfd], [], [], 0)[0]:
        return pidfd
    os.close(pidfd)
    return None
