"""Whether the API lives (`/health`, always 200) and whether it can do its work (`/readyz`, 503 if not). Open to all."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from management_api.agents import TheFleet
from management_api.fleet import Fleet
from management_api.openapi import answers
from opmas import __version__
from opmas.wire.errors import ManagerUnavailable, OpmasError
from opmas.wire.messages import now
from opmas.wire.views import HealthView

router = APIRouter(tags=["health"])

# Probes are impatient: a manager that needs longer than this for a word is not well.
_PROBE_S = 1.0

STARTED_AT = now()


class Health(BaseModel):
    """Each part with a word; `status` is `ok` only if every part is."""

    status: str
    version: str
    instantiated_at: datetime
    registered_agents: int
    parts: dict[str, str]


class Ready(BaseModel):
    """The API can take requests."""

    ready: bool
    version: str


@router.get("/health")
async def health(fleet: TheFleet) -> Health:
    """Tell how each part is. The answer is 200 whatever they are: that it came says that the API lives."""
    manager, problem = await _ask_manager(fleet)
    parts = {"nats": "ok" if fleet.is_connected else "unreachable", "manager": manager.status if manager else problem}
    parts |= {f"manager.{name}": word for name, word in manager.checks.items()} if manager else {}
    return Health(
        status="ok" if all(word == "ok" for word in parts.values()) else "degraded",
        version=__version__,
        instantiated_at=STARTED_AT,
        registered_agents=manager.agents if manager else 0,
        parts=parts,
    )


@router.get("/readyz", responses={503: answers()[503]})
async def ready(fleet: TheFleet) -> Ready:
    """Answer 200 when a manager answers, else 503 naming what is missing."""
    manager, problem = await _ask_manager(fleet)
    if manager is None:
        part = "manager" if fleet.is_connected else "nats"
        raise ManagerUnavailable(f"cannot take requests: {part}: {problem}", "see `opmas status`")
    if manager.status == "starting":
        raise ManagerUnavailable("cannot take requests: the manager is starting", "try again in a moment")
    return Ready(ready=True, version=__version__)


async def registered_agents(fleet: Fleet) -> int:
    """Count the agents there are; 0 while no manager says."""
    manager, _ = await _ask_manager(fleet)
    return manager.agents if manager else 0


async def _ask_manager(fleet: Fleet) -> tuple[HealthView | None, str]:
    try:
        return await fleet.query("health", HealthView, timeout_s=_PROBE_S), ""
    except OpmasError as error:
        return None, error.message
