"""Routes about the packages on disk."""

from typing import Annotated

from fastapi import APIRouter, Query

from management_api import examples
from management_api.agents import TheFleet, given
from management_api.auth import requires
from management_api.openapi import answers
from opmas.wire.params import PackagesParams
from opmas.wire.views import PackageList

router = APIRouter(prefix="/api/v1", tags=["fleet"])


@router.get("/packages", dependencies=[requires("packages:read")], responses=answers(example=examples.PACKAGES))
async def list_packages(fleet: TheFleet, params: Annotated[PackagesParams, Query()]) -> PackageList:
    """Every package on disk, broken ones with their error; `registered=false`: those of which there is no agent."""
    return await fleet.query("packages", PackageList, params=given(params))
