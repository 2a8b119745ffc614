"""Stays with one instance from its fork to the end of the last process it started: output, signals, grace, exit.

The loop of the shim; knows nothing of locks, specs on sockets, or the manager.
"""

import contextlib
import os
import select
import signal
import time

from agent_manager.process import instance, procfs, record
from agent_manager.process.logwriter import LogWriter
from agent_manager.process.record import FORMAT, SlotExit, SlotState
from agent_manager.process.spec import InstanceSpec

READ_BYTES = 65536
DRAIN_READS = 64  # 4 MiB: four times the largest pipe, yet no hold for a writer who is not ours to kill
END_DEADLINE_S = 5.0  # for the killed to be gone: one in an uninterruptible wait may take for ever
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)


class Keeper:
    """Starts the instance, and stays with it until nothing of it is left."""

    def __init__(self, spec: InstanceSpec, lock: int, wake: int) -> None:
        self._spec = spec
        self._wake = wake
        self._log = LogWriter("log", spec.log_max_bytes, spec.log_max_files)
        self._oom_kills = _oom_kills()
        self._stop_at: float | None = None
        self._hurried = False
        self._status: int | None = None
        self._error = b""
        out, out_writer = os.pipe2(os.O_CLOEXEC)
        err, err_writer = os.pipe2(os.O_CLOEXEC)
        errors, errors_writer = os.pipe2(os.O_CLOEXEC)
        gate, self._gate = os.pipe2(os.O_CLOEXEC)
        self._pid = self._fork(lock, out_writer, err_writer, gate, errors_writer)
        for fd in (out_writer, err_writer, errors_writer, gate):
            os.close(fd)
        self._streams = {out: "out", err: "err", errors: "errors"}
        self._poll = select.poll()
        for fd in (out, err, errors, wake):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self.state = self._describe()

    def _fork(self, lock: int, out: int, err: int, gate: int, errors: int) -> int:
        shim = os.getpid()
        # A signal must find either our handlers or the instance's, never ours in the instance.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_RDONLY)
            for number, fd in enumerate((null, out, err)):
                os.dup2(fd, number)
            instance.close_all_but({0, 1, 2, lock, gate, errors})
            os.set_inheritable(lock, True)
            instance.become(self._spec, shim, gate, errors)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        return pid

    def _describe(self) -> SlotState:
        shim = os.getpid()
        return SlotState(
            shim_pid=shim,
            shim_start_ticks=procfs.start_ticks(shim) or 0,
            pid=self._pid,
            start_ticks=procfs.start_ticks(self._pid) or 0,
            boot_id=procfs.boot_id(),
            format=FORMAT,
            start_count=self._spec.start_count,
            agent_id=self._spec.agent_id,
            ordinal=self._spec.ordinal,
            started_at=time.time(),
        )

    def open_gate(self) -> None:
        """Let the instance run, now that its state is on disk. Raises OSError when it cannot be: then it never runs."""
        record.save("state", self.state)
        with contextlib.suppress(BrokenPipeError):  # it could not be set up: the exit record will say why
            os.write(self._gate, b"+")
        os.close(self._gate)

    def keep(self) -> SlotExit:
        """Carry its output to the log, and our signals to it, until it has ended; then end all it has left."""
        while self._status is None:
            for fd, _ in self._poll.poll(self._patience_ms()):
                if fd == self._wake:
                    self._on_wake()
                else:
                    self._on_output(fd)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._hurry()
        self._end_all()
        self._drain()
        self._log.close()
        return self._exit(self._status)

    def _patience_ms(self) -> int | None:
        if self._stop_at is None or self._hurried:
            return None
        return max(0, int((self._stop_at - time.monotonic()) * 1000) + 1)

    def _on_output(self, fd: int) -> bool:
        """Take what there is, at most one buffer full; says whether there was any."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        stream = self._streams[fd]
        if not data:
            self._poll.unregister(fd)
            os.close(fd)
            del self._streams[fd]
        elif stream == "errors":
            self._error += data
        else:
            self._log.write(stream, data)
        return bool(data)

    def _on_wake(self) -> None:
        for signum in os.read(self._wake, 4096):
            if signum == signal.SIGCHLD:
                self._reap()
            elif signum == signal.SIGTERM and self._stop_at is None:
                self._stop_at = time.monotonic() + self._spec.stop_grace_s
                os.kill(self._pid, self._spec.stop_signal)
                os.kill(self._pid, signal.SIGCONT)
            else:
                self._hurry()

    def _hurry(self) -> None:
        self._hurried = True
        self._kill_group()

    def _kill_group(self) -> None:
        if self._status is None:  # else its number may be another group's by now
            for kill in (os.kill, os.killpg):
                with contextlib.suppress(ProcessLookupError):
                    kill(self._pid, signal.SIGKILL)

    def _reap(self) -> bool:
        """Bury who has died, the instance or what it left to us; says whether children remain."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if dead is None:
                return True
            if dead.si_pid == self._pid:
                self._kill_group()
                self._status = os.waitpid(self._pid, 0)[1]
            else:
                os.waitpid(dead.si_pid, 0)

    def _end_all(self) -> None:
        """Kill what the instance left: its orphans come to us, and theirs when they die."""
        deadline = time.monotonic() + END_DEADLINE_S
        while self._reap() and time.monotonic() < deadline:
            for pid in procfs.tree(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if select.select([self._wake], [], [], 0.02)[0]:
                os.read(self._wake, 4096)

    def _drain(self) -> None:
        for _ in range(DRAIN_READS):
            read = [self._on_output(fd) for fd in list(self._streams)]
            if not any(read):
                return

    def _exit(self, status: int) -> SlotExit:
        code = os.waitstatus_to_exitcode(status)
        return SlotExit(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            oom=code == -signal.SIGKILL and not self._hurried and _oom_kills() > self._oom_kills,
            started_at=self.state.started_at,
            ended_at=time.time(),
            start_count=self._spec.start_count,
            error=self._error.decode(errors="replace") or None,
        )


def _oom_kills() -> int:
    """Count the processes the kernel has killed for want of memory, on the whole machine."""
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
