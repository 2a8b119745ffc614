"""One HTTP request said again and again by many callers: a process of its own, which hardly uses the processor.

Reads a `Load` as JSON from stdin and prints a `Measured`. Written on bare sockets: an HTTP client library would use
more processor time for a run than the servers that are measured.
"""

import asyncio
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import cast

import uvloop

from benchmarks.figures import cpu_s

_PATIENCE_S = 60.0  # for the answers that are under way when the time is up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What to send, to whom, how often; `first` and `whole` are words of a good answer's first piece and of its end."""

    port: int
    request: str
    callers: int
    warm_s: float
    measured_s: float
    first: str
    whole: str
    pids: Mapping[str, Sequence[int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of it; times in seconds, `cpu` in seconds for each run."""

    rate: float
    p50: float
    p99: float
    first_p50: float
    first_p99: float
    failed: int
    failure: str
    cpu: Mapping[str, float]


class Caller(asyncio.Protocol):
    """One connection that stays open: asks, reads the whole answer, asks again."""

    def __init__(self, load: Load, tally: "Tally") -> None:
        self._load = load
        self._tally = tally
        self._request = load.request.encode()
        self._first = load.first.encode()
        self._whole = load.whole.encode()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._read = bytearray()
        self._body = self._length = -1
        self._first_at = 0.0
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._body < 0:
            self._read_head()
        if not self._first_at and self._first in self._read:
            self._first_at = time.perf_counter()
        if self._is_whole():
            good = self._read.startswith(b"HTTP/1.1 200") and self._whole in self._read
            self._tally.add(self._began, self._first_at, b"" if good else bytes(self._read))
            if self._tally.is_over:
                self._transport.close()
            else:
                self._ask()

    def _read_head(self) -> None:
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return
        self._body = end + 4
        head = self._read[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            self._length = int(head[at + 15 :].split(b"\r\n", 1)[0])

    def _is_whole(self) -> bool:
        if self._body < 0:
            return False
        if self._length >= 0:
            return len(self._read) >= self._body + self._length
        return self._read.endswith(b"\r\n0\r\n\r\n")  # the last of the chunks

    def connection_lost(self, error: Exception | None) -> None:
        if not self._tally.is_over:
            self._tally.add(self._began, 0.0, b"the connection was closed")
        if not self.ended.done():
            self.ended.set_result(None)


class Tally:
    """What was answered between the end of the warming up and the end."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._since = time.perf_counter() + load.warm_s
        self._until = self._since + load.measured_s
        self._taken: list[float] = []
        self._firsts: list[float] = []
        self._failed = 0
        self._failure = b""
        self._cpu_before = self._cpu_after = dict.fromkeys(load.pids, 0.0)

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._until

    def add(self, began: float, first_at: float, failure: bytes) -> None:
        now = time.perf_counter()
        if failure:
            self._failed += 1
            self._failure = failure
        elif self._since <= now <= self._until:
            self._taken.append(now - began)
            self._firsts.append((first_at or now) - began)

    async def keep_time(self) -> None:
        """Read the processes' clocks at the beginning and at the end of what counts."""
        await asyncio.sleep(self._since - time.perf_counter())
        self._cpu_before = self._cpu()
        await asyncio.sleep(self._until - time.perf_counter())
        self._cpu_after = self._cpu()

    def _cpu(self) -> dict[str, float]:
        return {name: sum(map(cpu_s, pids)) for name, pids in self._load.pids.items()}

    def measured(self) -> Measured:
        taken, firsts = sorted(self._taken) or [0.0], sorted(self._firsts) or [0.0]
        count = len(self._taken) or 1
        return Measured(
            rate=len(self._taken) / self._load.measured_s,
            p50=statistics.median(taken),
            p99=taken[len(taken) * 99 // 100],
            first_p50=statistics.median(firsts),
            first_p99=firsts[len(firsts) * 99 // 100],
            failed=self._failed,
            failure=self._failure.decode(errors="replace")[-500:],
            cpu={name: (self._cpu_after[name] - self._cpu_before[name]) / count for name in self._load.pids},
        )


async def run(load: Load) -> Measured:
    """Let all callers call until the time is up."""
    loop = asyncio.get_running_loop()
    tally = Tally(load)
    callers = [Caller(load, tally) for _ in range(load.callers)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", load.port)  # type: ignore[misc]
    await tally.keep_time()
    async with asyncio.timeout(_PATIENCE_S):
        await asyncio.gather(*(caller.ended for caller in callers))
    return tally.measured()


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(uvloop.run(run(Load(**json.load(sys.stdin)))))))
