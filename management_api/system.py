"""Routes about the system itself: its nodes, and what this API is and was told."""

import platform
import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, JsonValue, SecretStr
from pydantic_core import to_jsonable_python

from management_api import examples
from management_api.agents import TheFleet
from management_api.auth import requires
from management_api.batch import MAX_AGENTS
from management_api.health import STARTED_AT
from management_api.listing import MAX_PAGE
from management_api.openapi import answers
from management_api.settings import MAX_BODY_BYTES, ApiSettings
from opmas import __version__
from opmas.wire.params import MAX_REPLICAS, MAX_WAIT_S
from opmas.wire.views import NodeList, NodeView

router = APIRouter(prefix="/api/v1", tags=["fleet"])

_READ = [requires("system:read")]

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


class Versions(BaseModel):
    """What runs."""

    opmas: str
    python: str
    platform: str


class Limits(BaseModel):
    """What a caller may ask for at most."""

    body_bytes: int = MAX_BODY_BYTES
    wait_seconds: float = MAX_WAIT_S
    replicas: int = MAX_REPLICAS
    page: int = MAX_PAGE
    batch_agents: int = MAX_AGENTS
    streams: int


class System(BaseModel):
    """The system as this API sees it. `isolation` is by node: how agents are kept apart there."""

    versions: Versions
    started_at: datetime
    nodes: tuple[NodeView, ...]
    isolation: dict[str, str]
    limits: Limits
    settings: dict[str, JsonValue]


_SYSTEM = System(
    versions=Versions(opmas=__version__, python="3.11.9", platform="Linux"),
    started_at=examples.NODES.nodes[0].started_at,
    nodes=examples.NODES.nodes,
    isolation={"node-1": "landlock 4"},
    limits=Limits(streams=1000),
    settings={"service": {"host": "127.0.0.1", "port": 8000}},
)


@router.get("/nodes", dependencies=_READ, responses=answers(example=examples.NODES))
async def list_nodes(fleet: TheFleet) -> NodeList:
    """Every node: a running AgentManager."""
    return await fleet.query("nodes", NodeList)


async def settings_of(request: Request) -> ApiSettings:
    """Find the settings that the application was started with."""
    settings: ApiSettings = request.app.state.settings
    return settings


@router.get("/system", dependencies=_READ, responses=answers(example=_SYSTEM))
async def get_system(fleet: TheFleet, settings: Annotated[ApiSettings, Depends(settings_of)]) -> System:
    """Versions, nodes, limits, and the API's settings without its secrets."""
    nodes = (await fleet.query("nodes", NodeList)).nodes
    return System(
        versions=Versions(opmas=__version__, python=platform.python_version(), platform=platform.platform()),
        started_at=STARTED_AT,
        nodes=nodes,
        isolation={node.id: node.isolation for node in nodes},
        limits=Limits(streams=settings.service.max_streams),
        settings=without_secrets(settings),
    )


def without_secrets(section: BaseModel) -> dict[str, JsonValue]:
    """Show settings: secrets are left out, and so are user and password in addresses."""
    values = ((name, getattr(section, name)) for name in type(section).model_fields)
    return {name: _shown(value) for name, value in values if not isinstance(value, SecretStr)}


def _shown(value: object) -> JsonValue:
    if isinstance(value, BaseModel):
        return without_secrets(value)
    plain: JsonValue = to_jsonable_python(value)
    return _CREDENTIALS.sub("", plain) if isinstance(plain, str) else plain
