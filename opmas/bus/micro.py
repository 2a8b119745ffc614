"""Being found: the NATS micro service protocol (ADR-32), by which `nats micro ls` sees managers and instances.

Only the answers. nats-py's own `nats.micro` makes nine subscriptions for them and runs the endpoints too, which here
are the command and query subjects that exist anyway.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel

from opmas.bus.delivery import Msg
from opmas.bus.face import AnyBus
from opmas.wire.messages import now

_PREFIX = "$SRV"
_TYPE = "io.nats.micro.v1."
_SEMVER = re.compile(r"\d+\.\d+\.\d+([-+].*)?")


@dataclass(slots=True)
class Endpoint:
    """One subject that is answered, and what became of the requests on it."""

    name: str
    subject: str
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    """Nanoseconds in all."""

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request and the time it takes; an exception counts as its error."""
        began = time.perf_counter_ns()
        self.num_requests += 1
        try:
            yield
        except Exception as error:
            self.failed(str(error))
            raise
        finally:
            self.processing_time += time.perf_counter_ns() - began

    def failed(self, reason: str) -> None:
        """Count an error."""
        self.num_errors += 1
        self.last_error = reason[:200]


class _Found(BaseModel):
    type: str
    name: str
    id: str
    version: str
    metadata: dict[str, str]


class _Described(BaseModel):
    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str] = {}


class _Info(_Found):
    description: str
    endpoints: list[_Described]


class _Counted(BaseModel):
    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int


class _Stats(_Found):
    started: str
    endpoints: list[_Counted]


@dataclass(slots=True)
class Service:
    """What one process is to whoever looks for services; `id` is unique, `name` is shared by replicas."""

    name: str
    id: str
    version: str
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    _started: str = field(default_factory=lambda: now().isoformat())

    @property
    def subjects(self) -> tuple[str, ...]:
        """What to subscribe to; wildcards cover PING, INFO and STATS."""
        return (f"{_PREFIX}.*", f"{_PREFIX}.*.{self.name}", f"{_PREFIX}.*.{self.name}.{self.id}")

    async def answer(self, bus: AnyBus, msg: Msg) -> None:
        """Answer one question; unknown verbs are left alone."""
        verb = msg.subject.split(".")[1]
        made = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}.get(verb)
        if made is not None:
            await bus.respond(msg, made().model_dump_json().encode())

    def _identity(self, kind: str) -> dict[str, object]:
        # The protocol wants semver; an author's version may be anything.
        version = self.version if _SEMVER.fullmatch(self.version) else "0.0.0"
        return {
            "type": f"{_TYPE}{kind}_response",
            "name": self.name,
            "id": self.id,
            "version": version,
            "metadata": dict(self.metadata),
        }

    def _ping(self) -> BaseModel:
        return _Found.model_validate(self._identity("ping"))

    def _info(self) -> BaseModel:
        described = [{"name": e.name, "subject": e.subject, "queue_group": e.queue_group} for e in self.endpoints]
        facts = {"description": self.description, "endpoints": described}
        return _Info.model_validate(self._identity("info") | facts)

    def _stats(self) -> BaseModel:
        counted = [
            {
                "name": e.name,
                "subject": e.subject,
                "queue_group": e.queue_group,
                "num_requests": e.num_requests,
                "num_errors": e.num_errors,
                "last_error": e.last_error,
                "processing_time": e.processing_time,
                "average_processing_time": e.processing_time // max(e.num_requests, 1),
            }
            for e in self.endpoints
        ]
        return _Stats.model_validate(self._identity("stats") | {"started": self._started, "endpoints": counted})
