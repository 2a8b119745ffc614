"""One warm interpreter: imports once, then forks a shim whenever the manager asks.

It keeps no list of shims and reads no spec: the kernel reaps for it, and what a shim has to say goes over the socket
that came with the request. It has one thread, without which no fork is safe, and ends with the manager's socket.
"""

import array
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback

import setproctitle

from agent_manager.process import packing, procfs, shim
from agent_manager.process.confine import landlock_abi

# A fork without Python's hooks (`os.register_at_fork`), that renew the locks of threads and the seeds of random numbers
# and so copy 0.4 MB: there are no threads here, and a shim draws no numbers. The instance is forked from the shim with
# all of them. A PyDLL keeps the interpreter's lock during the call, so that the child has it.
_fork_plainly = ctypes.PyDLL(None, use_errno=True).fork


class Refused(Exception):
    """A preload that no template can hold."""


def main() -> int:
    """Preload, say so, and fork until the manager's socket ends."""
    manager = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        try:
            preload(module)
        except Refused as reason:
            _say(manager, {"refused": module, "reason": str(reason)})
            return 1
    _settle()
    _say(manager, {"ready": True})
    return _serve(manager)


def preload(item: str) -> None:
    """Import a module, or call the hook in "module:callable". Raises Refused."""
    module, _, hook = item.partition(":")
    try:
        loaded = importlib.import_module(module)
        if hook:
            getattr(loaded, hook)()
    except BaseException as error:  # whatever an author's module does at import, the manager is told
        traceback.print_exc()
        raise Refused("".join(traceback.format_exception_only(error)).strip()) from error
    tasks = os.listdir("/proc/self/task")
    if len(tasks) > 1:
        names = sorted({thread.name for thread in threading.enumerate()} - {threading.main_thread().name})
        known = f" ({', '.join(names)})" if names else " outside Python"
        raise Refused(f"it starts {len(tasks) - 1} thread(s){known}, and a process with threads cannot be forked")


def _settle() -> None:
    """Leave as little as can be for a fork to do or to write on."""
    setproctitle.setproctitle("opmas: template")
    procfs.boot_id()
    landlock_abi()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    gc.disable()  # shims stay like this: a collection would write on every page
    packing.pack()
    gc.freeze()


def _serve(manager: socket.socket) -> int:
    while True:
        data, ancillary, _, _ = manager.recvmsg(1, socket.CMSG_SPACE(4))
        if not data:
            return 0
        for _, _, content in ancillary:
            request = socket.socket(fileno=array.array("i", content)[0])
            _fork(manager, request)
            request.close()


def _fork(manager: socket.socket, request: socket.socket) -> None:
    pid = _fork_plainly()
    if pid < 0:
        _say(request, {"error": f"cannot fork: {os.strerror(ctypes.get_errno())}"})
    elif pid == 0:
        manager.close()
        shim.main(request)


def _say(receiver: socket.socket, message: dict[str, object]) -> None:
    receiver.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
