"""What a fork of a packed template allocates lies together."""

import subprocess
import sys

CODE = """
import os, sys
from agent_manager.process import packing

def private_kb():
    fd = os.open("/proc/self/smaps_rollup", os.O_RDONLY)
    lines = os.read(fd, 4096).split(b"\\n")
    os.close(fd)
    return sum(int(line.split()[1]) for line in lines if line.startswith(b"Private_"))

full = [bytes(31) for _ in range(200_000)]
for at in range(0, len(full), 60):  # a free place on nearly every page
    full[at] = None
if sys.argv[1] == "packed":
    packing.pack()
if (pid := os.fork()) == 0:
    before = private_kb()
    new = [bytes(31) for _ in range(2_000)]
    os.write(1, str(private_kb() - before).encode())
    os._exit(0)
os.waitpid(pid, 0)
"""


def copied_kb(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, timeout=60, check=True)
    return int(done.stdout)


def test_a_fork_of_a_packed_process_copies_no_page_for_each_object_it_makes() -> None:
    assert copied_kb("packed") < 1000 < copied_kb("as it is")
