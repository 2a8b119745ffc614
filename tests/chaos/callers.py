"""Callers who do not give up: each asks for runs over HTTP with a key, and follows some of them to their end."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType
from typing import Self

from tests.node import Document, Node

_AGAIN = {429, 500, 502, 503, 504}  # statuses after which the same request is sent again
_PATIENCE_S = 60.0
_SILENCE_S = 4.0  # on a stream, after which it is opened anew


@dataclass
class Asked:
    """One request with its key, and all that was heard of it."""

    key: str
    body: Document
    streamed: bool
    sent_at: float = 0.0
    run_ids: list[str] = field(default_factory=list)
    """Of each answer to the request, which may have been sent many times."""
    attempts: int = 0
    events: list[tuple[int, Document]] = field(default_factory=list)
    """What the stream showed, with its ids."""
    openings: int = 0
    """How often the stream was opened."""
    complaints: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return self.run_ids[0]


class Line:
    """A connection to the API that is made again after each failure."""

    def __init__(self, node: Node, port: int = 0) -> None:
        self._port = port or int(node.environment["OPMAS_API__PORT"])
        self._token = node.token
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def ask(self, method: str, path: str, body: Document | None = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request and return the answer, its body not yet read; raises OSError or HTTPException."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SILENCE_S)
        given = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, given)
        return self._connection.getresponse()

    def get(self, path: str) -> tuple[int, Document]:
        """Get a document, however often it must be asked for."""
        return self.persist("GET", path)[:2]

    def persist(
        self, method: str, path: str, body: Document | None = None, **headers: str
    ) -> tuple[int, Document, int]:
        """Send the same request until it is answered; return status, document and the number of attempts."""
        deadline = time.monotonic() + _PATIENCE_S
        attempts = 0
        while time.monotonic() < deadline:
            attempts += 1
            try:
                answer = self.ask(method, path, body, **headers)
                document = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                self.hang_up()
            else:
                if answer.status not in _AGAIN:
                    return answer.status, document, attempts
            time.sleep(0.1)
        raise AssertionError(f"{method} {path} had no answer within {_PATIENCE_S:g} s")

    def stream(self, path: str, after: int) -> Iterator[tuple[int, Document]]:
        """Yield what a stream shows after an id, until it ends or breaks off."""
        try:
            answer = self.ask("GET", path, Accept="text/event-stream", Last_Event_ID=str(after))
            if answer.status != 200:
                return
            fields: dict[bytes, bytes] = {}
            while line := answer.readline():
                if line.strip():
                    name, _, value = line.partition(b":")
                    fields[name] = value
                elif b"data" in fields:  # the empty line that makes the event whole
                    yield int(fields[b"id"]), json.loads(fields[b"data"])
                    fields = {}
        except (OSError, http.client.HTTPException):
            pass
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Callers:
    """Some threads that share a list of requests, none of them sent before its time; each calls one of the ports."""

    def __init__(
        self, node: Node, agent_id: str, asked: list[Asked], threads: int, seconds: float, ports: Sequence[int] = (0,)
    ) -> None:
        self._node = node
        self._path = f"/api/v1/agents/{agent_id}/runs"
        self._asked = asked
        self._due = [number * seconds / len(asked) for number in range(len(asked))]
        self._next = iter(range(len(asked)))
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._call, args=(port,), name=f"caller {number}")
            for number, port in zip(range(threads), cycle(ports), strict=False)
        ]

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def are_done(self) -> bool:
        """Whether every request was answered and every stream seen to its end."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for them; each has its deadlines."""
        for thread in self._threads:
            thread.join()

    def _call(self, port: int) -> None:
        with Line(self._node, port) as line:
            while (number := self._take()) is not None:
                time.sleep(max(0.0, self._began + self._due[number] - time.monotonic()))
                asked = self._asked[number]
                try:
                    self._accept(line, asked, number)
                    if asked.streamed:
                        self._follow(line, asked)
                except AssertionError as error:
                    asked.complaints.append(str(error))

    def _take(self) -> int | None:
        with self._lock:
            return next(self._next, None)

    def _accept(self, line: Line, asked: Asked, number: int) -> None:
        asked.sent_at = time.time()
        for _ in range(2 if number % 5 == 0 else 1):  # every fifth asks again although it was answered
            status, answer, attempts = line.persist("POST", self._path, asked.body, Idempotency_Key=asked.key)
            assert status in (200, 202), f"answered with {status}: {answer}"
            asked.run_ids.append(answer["runId"])
            asked.attempts += attempts

    def _follow(self, line: Line, asked: Asked) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            asked.openings += 1
            after = asked.events[-1][0] if asked.events else 0
            for event in line.stream(f"{self._path}/{asked.run_id}/stream", after):
                asked.events.append(event)
                if event[1]["type"] in ("end", "error"):
                    return
            time.sleep(0.1)
        raise AssertionError(f"the stream did not end within {_PATIENCE_S:g} s")


def requests(count: int, dice: random.Random) -> list[Asked]:
    """Draw up requests: some short, some longer, a quarter of them followed."""
    drawn = []
    for number in range(count):
        pieces, pause = dice.randint(1, 6), dice.choice((0, 0.02, 0.1, 0.3))
        body = {"message": f"number {number}", "params": {"pieces": pieces, "pause": pause}}
        drawn.append(Asked(f"key-{number}", body, streamed=number % 4 == 0))
    return drawn
