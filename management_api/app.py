"""The application: routes, errors and the gate put together, and the connection that lives as long as it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine

from fastapi import FastAPI

from management_api import (
    agents,
    batch,
    catalogue,
    control,
    docs,
    errors,
    figures,
    files,
    health,
    history,
    invocations,
    openapi,
    registration,
    sessions,
    system,
)
from management_api.agentos import Probes, Switch
from management_api.auth.door import Door
from management_api.auth.identity import Identification
from management_api.auth.keys import KeyRing
from management_api.auth.rates import Rates
from management_api.auth.routes import router as tokens
from management_api.figures import Figures, Gauged
from management_api.fleet import Fleet
from management_api.follow import EventLook
from management_api.gate import Correlation, Scales
from management_api.runs import Runs, Timings
from management_api.settings import ApiSettings
from management_api.store import ApiStore
from management_api.store.ledger import Ledger
from management_api.streams import Streams
from opmas import __version__

# The busiest first: each is tried in turn.
_ROUTES = (
    *(invocations, agents, health, figures, registration, batch, control, sessions, files, history, catalogue, system),
    docs,
)

# A caller who waits for the database hears within twice that; so does whoever stops the API.
_DATABASE_S = 3.0


def create_app(
    settings: ApiSettings, token: str, streams: Streams | None = None, agentos_port: int | None = None
) -> FastAPI:
    """Make the application that admits bearers of `token`; whoever stops the server ends `streams` first.

    Callers of `agentos_port` are shown the run contract.
    """
    fleet = Fleet(settings)
    streams = streams or Streams(settings.service.max_streams)
    measured = Figures(streams)
    database = settings.database
    store = ApiStore.open(settings.database_url, database.pool_size, database.max_overflow, _DATABASE_S)
    keys = KeyRing(store)
    timings = Timings(lease_s=settings.runs.lease_s, retention_days=settings.runs.retention_days)
    runs = Runs(fleet, Ledger(store), timings)
    streams.on_stop(runs.stop)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.fleet, app.state.store, app.state.settings = fleet, store, settings
        app.state.runs = runs
        app.state.streams, app.state.figures, app.state.event_look = streams, measured, EventLook(fleet)
        async with (
            store,
            fleet.connected(),
            runs.running(),
            streams.running(),
            _beside({"prepare database": store.prepare(), "keys": keys.keep_up()}),
        ):
            yield
            await keys.flush()

    app = FastAPI(
        title="OPMAS management API",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False},
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=lambda route: route.name,
    )
    errors.install(app)
    for module in _ROUTES:
        app.include_router(module.router)
    app.include_router(tokens)
    openapi.install(app)
    # The last to be added is the outermost.
    app.add_middleware(Scales, limit=settings.body_limit)
    app.add_middleware(Door, identify=Identification(settings.auth, token, keys), rates=Rates(settings.rate_limit))
    app.add_middleware(Gauged, figures=measured)
    app.add_middleware(Switch, port=agentos_port, probes=Probes(fleet, store))
    app.add_middleware(Correlation)
    return app


@contextlib.asynccontextmanager
async def _beside(chores: dict[str, Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run `chores`, by name, for as long as the block lasts."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(chore, name=name) for name, chore in chores.items()]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
