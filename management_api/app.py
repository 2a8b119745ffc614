"""The application: routes, errors and the gate put together, and the connection that lives as long as it does."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from management_api import agents, catalogue, control, errors, health
from management_api.auth.door import Door
from management_api.auth.identity import Identification
from management_api.fleet import Fleet
from management_api.gate import Correlation, Scales
from management_api.settings import ApiSettings
from opmas import __version__

# Bodies here are a few words; uploads will have limits of their own.
_MAX_BODY = 1 << 20


def create_app(settings: ApiSettings, token: str) -> FastAPI:
    """Make the application that admits bearers of `token`."""
    fleet = Fleet(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.fleet = fleet
        async with fleet.connected():
            yield

    app = FastAPI(
        title="OPMAS management API",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False},
    )
    errors.install(app)
    for module in (health, agents, control, catalogue):
        app.include_router(module.router)
    # The last to be added is the outermost.
    app.add_middleware(Scales, limit=_MAX_BODY)
    app.add_middleware(Door, identify=Identification(token))
    app.add_middleware(Correlation)
    return app
