"""The run service by itself: no HTTP, but a real record and a real bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from management_api.auth.principal import Principal
from management_api.fleet import Fleet
from management_api.runs import Runs, Timings
from management_api.settings import ApiSettings
from management_api.store import ApiStore
from management_api.store.ledger import Ledger
from management_api.store.rows import Accepted, RunRow, StoredEvent
from opmas.settings import NatsSettings
from opmas.wire.invocation import InvokeRequest
from opmas.wire.runs import RunEvent


def caller(subject: str = "key:app", workspace: str = "a", *, person: bool = False, role: str = "viewer") -> Principal:
    return Principal(subject, workspace, frozenset({role}), frozenset(), "k1", is_person=person)


@dataclass
class Service:
    """One API's run service, with an agent that a test talks to."""

    runs: Runs
    agent_id: str

    async def invoke(
        self, message: str = "hello", by: Principal | None = None, key: str | None = None, **fields: object
    ) -> Accepted:
        request = InvokeRequest.model_validate({"message": message, **fields})
        return await self.runs.invoke(by or caller(), self.agent_id, request, idempotency_key=key, correlation_id="")

    async def run(self, message: str = "hello", **fields: object) -> RunRow:
        return (await self.invoke(message, **fields)).run

    async def settled(self, run: RunRow) -> RunRow:
        return await self.runs.settled(run, 15)

    async def read(self, run: RunRow) -> RunRow:
        return await self.runs.get(caller(), self.agent_id, run.id)

    async def log(self, run: RunRow, after: int = 0) -> list[StoredEvent]:
        """Follow a run to its end."""
        async with asyncio.timeout(30):
            return [event async for event in self.runs.follow(run, after) if event is not None]


def told(event: StoredEvent) -> str:
    return RunEvent.model_validate_json(event.json).content


@asynccontextmanager
async def serving_runs(
    database_url: str, nats_url: str, agent_id: str, *, timings: Timings | None = None, migrated: bool = True
) -> AsyncIterator[Service]:
    """Serve runs until the block ends; not `migrated`, the database is as good as away."""
    fleet = Fleet(ApiSettings(nats=NatsSettings(url=nats_url)))
    async with ApiStore.open(database_url, timeout_s=5.0 if migrated else 0.2) as store:
        if migrated:
            await store.prepare()
        runs = Runs(fleet, Ledger(store), timings)
        async with fleet.connected(), runs.running():
            await runs.ready()
            yield Service(runs, agent_id)
