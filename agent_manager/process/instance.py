"""The last acts of a fresh fork before it becomes the agent's own code, forked or exec'd.

No asyncio, no daemon: an instance knows nothing of who started it. Every path ends in `os._exit`: returning would
go on with the template's stack.
"""

import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
import time
from typing import NoReturn, TextIO

import setproctitle

from agent_manager.process.confine import confine
from agent_manager.process.spec import InstanceSpec

NOT_STARTED = 127  # what a shell says of a program it cannot start
OOM_SCORE = "500"  # when memory runs out, agents go before those who restart them


def close_all_but(kept: set[int]) -> None:
    """Close every other descriptor: close-on-exec does nothing on fork."""
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(fd)


def become(spec: InstanceSpec, shim: int, gate: int, errors: int) -> NoReturn:
    """Turn this process, whose stdio is in place, into the instance of `spec`.

    It runs when `gate` opens; why it could not goes to `errors`, and so into the exit record.
    """
    try:
        try:
            _prepare(spec, shim)
            if not os.read(gate, 1):  # the shim could not write down that we live
                os._exit(NOT_STARTED)
            os.close(gate)
            if spec.argv:
                _execute(spec)
        except (OSError, ValueError) as error:
            os.write(errors, reason_of(error).encode())
            os._exit(NOT_STARTED)
        os.close(errors)
        os._exit(_call(*spec.entry))
    finally:
        os._exit(1)


def reason_of(error: Exception) -> str:
    """Say what went wrong, without the number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)


def _prepare(spec: InstanceSpec, shim: int) -> None:
    os.setsid()  # a session of its own: no terminal, and a group to end
    os.umask(0o077)
    _reset_signals(for_python=bool(spec.entry))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(OOM_SCORE)
    confine(spec, shim)
    try:
        os.chdir(spec.cwd)
    except OSError as error:
        raise OSError(error.errno, f"cannot enter the working directory {spec.cwd}: {error.strerror}") from error
    if spec.entry:
        _adopt_environment(spec)


def _reset_signals(*, for_python: bool) -> None:
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if signal.getsignal(signum) not in {signal.SIG_DFL, None}:
            signal.signal(signum, signal.SIG_DFL)
    if for_python:  # as an interpreter finds them when it starts
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _adopt_environment(spec: InstanceSpec) -> None:
    os.environ.clear()
    os.environ.update(spec.environment)
    time.tzset()
    sys.argv = [spec.instance_id]
    setproctitle.setproctitle(f"opmas: {spec.instance_id}")
    # New ones: the template's take the pipe for the file that was there. By line, or last words before a kill are lost.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = _writer(1), _writer(2)
    gc.enable()


def _writer(fd: int) -> TextIO:
    return os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _execute(spec: InstanceSpec) -> None:
    try:
        os.execvpe(spec.argv[0], spec.argv, spec.environment)  # noqa: S606 - this is what it is for
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.ENOENT:
            found = "/" in spec.argv[0] and os.path.exists(spec.argv[0])
            reason = "the interpreter in its first line does not exist" if found else "no such program"
            reason += "" if "/" in spec.argv[0] else f" in PATH ({spec.env.get('PATH', os.defpath)})"
        raise OSError(error.errno, f"cannot execute {spec.argv[0]}: {reason}") from error


def _call(module: str, name: str) -> int:
    try:
        code = int(getattr(importlib.import_module(module), name)() or 0)
    except SystemExit as leaving:
        code = _code_of(leaving)
    except BaseException:  # noqa: BLE001 - the end of the process: as the interpreter does it, traceback and exit code 1
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code & 0xFF


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    print(leaving.code, file=sys.stderr)  # noqa: T201 - as the interpreter does it
    return 1
