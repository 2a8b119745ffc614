"""What the instances of these tests run: forked by name, so importable from the template."""

# ruff: noqa: T201 - printing is what they are for

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn


def report() -> int:
    """Tell what a fork finds."""
    print(
        json.dumps(
            {
                "environ": dict(os.environ),
                "proc_environ": Path("/proc/self/environ").read_bytes().decode(errors="replace"),
                "cwd": os.getcwd(),
                "umask": os.umask(0),
                "fds": {
                    fd: os.readlink(f"/proc/self/fd/{fd}")
                    for fd in os.listdir("/proc/self/fd")
                    if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")
                },
                "stdin": os.readlink("/proc/self/fd/0"),
                "comm": Path("/proc/self/comm").read_text().strip(),
                "timezone": time.tzname[0],
                "leads_session": os.getsid(0) == os.getpid(),
                "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
                "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
                "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                "new_privileges": "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text(),
                "tasks": len(os.listdir("/proc/self/task")),
            }
        )
    )
    return 0


def idle() -> int:
    """Live until a signal ends it."""
    print("idle")
    signal.pause()
    return 0


def polite() -> NoReturn:
    """End with code 7 when asked to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("idle")
    while True:
        signal.pause()


def stubborn() -> NoReturn:
    """Ignore what it is asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("idle")
    while True:
        signal.pause()


def ticker() -> NoReturn:
    """Count for ever, a line each."""
    number = 0
    while True:
        print(number)
        number += 1
        time.sleep(0.01)


def closed_stdio() -> NoReturn:
    """Shut both streams, and live on."""
    print("idle")
    os.close(1)
    os.close(2)
    while True:
        signal.pause()


def crowd() -> NoReturn:
    """Leave 200 children in sessions of their own, half of them orphans."""
    for _ in range(100):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.pause()
            signal.pause()
    print("idle")
    while True:
        signal.pause()


def with_stray() -> NoReturn:
    """Start a child that leaves the session and is no descendant any more."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print(os.getpid())
            signal.pause()
        os._exit(0)
    while True:
        signal.pause()


def fail() -> int:
    """Raise."""
    raise RuntimeError("nothing works today")


def leave_with_three() -> NoReturn:
    """Exit as scripts do."""
    sys.exit(3)


def leave_with_words() -> NoReturn:
    """Exit as scripts do that have a complaint."""
    sys.exit("no such file")


def long_line() -> int:
    """Print 100 MB without an end of line, then a line that is no text."""
    chunk = b"x" * 1_000_000
    for _ in range(100):
        os.write(1, chunk)
    os.write(1, b"\n\xff\xfe ok\n")
    return 0


def many_lines() -> int:
    """Print 20,000 numbered lines."""
    for number in range(20_000):
        print(number)
    return 0


def confined() -> int:
    """Tell which acts succeed; the paths come by the environment."""
    acts = {
        "read own": lambda: Path(os.environ["OWN"]).read_text(),
        "write own": lambda: Path(os.environ["OWN"]).write_text("forged"),
        "read other": lambda: Path(os.environ["OTHER"]).read_text(),
        "make in private": lambda: Path(os.environ["PRIVATE"], "new").mkdir(),
        "remove other": lambda: Path(os.environ["OTHER"]).unlink(),
        "write allowed": lambda: Path(os.environ["ALLOWED"], "file").write_text("x"),
        "write cwd": lambda: Path("file").write_text("x"),
        "write tmp": lambda: Path("/tmp", f"opmas-test-{os.getpid()}").mkdir(),
        "remove tmp": lambda: Path("/tmp", f"opmas-test-{os.getpid()}").rmdir(),
        "list root": lambda: os.listdir("/"),
        "run program": lambda: subprocess.run(["true"], check=True),
        "signal own child": _signal_child,
        "signal other": lambda: os.kill(int(os.environ["VICTIM"]), signal.SIGKILL),
        "signal shim": lambda: os.kill(os.getppid(), 0),
    }
    done = {}
    for name, act in acts.items():
        try:
            act()
        except OSError as error:
            done[name] = type(error).__name__
        else:
            done[name] = "ok"
    print(json.dumps(done))
    return 0


def _signal_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    child.kill()
    child.wait()


def start_thread() -> None:
    """Do at preload what numpy does."""
    threading.Thread(target=time.sleep, args=(60,), name="eager", daemon=True).start()


def draw() -> int:
    """Draw a random number."""
    print(random.random())  # noqa: S311 - no secret
    return 0
