"""The small process that owns one instance: its slot, and by its `Keeper` the instance itself.

A fork of the template, and nobody's servant: the manager may die, and the next one finds all it must know in the slot.
It imports nothing after the fork, allocates little and collects no garbage, for there is one for every instance.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import time
from typing import NoReturn

import setproctitle

from agent_manager.process import instance, record
from agent_manager.process.confine import PR_SET_CHILD_SUBREAPER, prctl
from agent_manager.process.keeper import HANDLED, Keeper
from agent_manager.process.record import SlotExit
from agent_manager.process.spec import InstanceSpec

logger = logging.getLogger(__name__)

SLOT_BUSY = 75  # EX_TEMPFAIL
LOCK_FD = 64  # the lock's number is at least this: out of the way of what programs expect at 3
RECORD_TRIES, RECORD_PAUSE_S = 5, 0.2  # a disk that fails may work again in a moment


class SlotLocked(Exception):
    """Another shim, or what it left behind, holds the slot."""


def main(request: socket.socket) -> NoReturn:
    """Serve one request of the manager's, from spec to exit record."""
    code = 1
    try:
        instance.close_all_but({0, 1, 2, request.fileno()})
        os.setsid()
        code = _own(request)
    except SlotLocked:
        code = SLOT_BUSY
    except Exception as error:
        logger.exception("a shim failed")
        _answer(request, {"error": instance.reason_of(error)})
    finally:
        os._exit(code)


def _own(request: socket.socket) -> int:
    spec = _receive(request)
    wake = _catch_signals()
    os.umask(0o077)
    os.chdir(spec.slot_dir)  # all paths are the slot's from here on
    lock = _take_lock(request)
    setproctitle.setproctitle(f"opmas: shim {spec.instance_id}")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for old in ("state", "exit"):  # a lock that is held without a state says: one is just being born
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    record.reserve("exit")
    keeper = Keeper(spec, lock, wake)
    keeper.open_gate()
    request.sendall(keeper.state.to_json().encode() + b"\n")
    request.close()
    return _record_exit(keeper.keep())


def _record_exit(ended: SlotExit) -> int:
    for _ in range(RECORD_TRIES):
        try:
            record.save("exit", ended)
        except OSError:
            logger.exception("cannot write an exit record")
            time.sleep(RECORD_PAUSE_S)
        else:
            return 0
    return 1


def _receive(request: socket.socket) -> InstanceSpec:
    chunks = []
    while chunk := request.recv(65536):
        chunks.append(chunk)
    return InstanceSpec.from_json(b"".join(chunks))


def _answer(request: socket.socket, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the manager may be gone, and the socket closed
        request.sendall(json.dumps(answer).encode() + b"\n")


def _catch_signals() -> int:
    wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    for signum in HANDLED:
        signal.signal(signum, lambda *_: None)  # its number arrives at `wake`
    for signum in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    return wake


def _take_lock(request: socket.socket) -> int:
    opened = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, LOCK_FD)
    os.close(opened)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)  # before the manager looks who has it open
        _answer(request, {"busy": True})
        raise SlotLocked from None
    return lock
