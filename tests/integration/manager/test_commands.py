"""Commands over NATS: what they answer, what becomes of the processes, and who is on record for it."""

import asyncio
import json


from typing import Any

import pytest

from agent_manager.nats import Role
from agent_manager.store import AuditRow, Store
from opmas.bus import Msg
from opmas.wire import subjects
from opmas.wire.errors import AgentNotFound, DeadlineExceeded, InvalidRequest
from tests.integration.manager.fleet import SLEEPER, WORKER, Fleet, Operator, pids, until
from tests.node import exists


def packages(fleet: Fleet) -> None:
    fleet.package("worker", WORKER, autostart=False)
    fleet.package("sleeper", **SLEEPER)


async def test_start_and_stop_answer_when_it_is_so(operator: Operator) -> None:
    started = await operator.command("start", "worker", wait=60)
    (pid,) = pids(await operator.get("worker"))
    stopped = await operator.command("stop", "worker", wait=60)

    assert started["status"] == "running"
    assert stopped["status"] == "stopped"
    assert stopped["generation"] == started["generation"] + 1
    assert not exists(pid)
