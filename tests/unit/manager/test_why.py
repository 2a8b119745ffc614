"""Answers to "why" that no real process brings about at will; the others are in the integration tests."""

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_manager.instance import Instance
from agent_manager.lifecycle import Phase
from agent_manager.package import Package
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import AgentRow
from agent_manager.why import explain
from opmas.wire.errors import ErrorBody
from opmas.wire.manifest import parse_manifest
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import Cause, EventView, LastExit

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MANIFEST = parse_manifest("name: worker\ncommand: ./worker\n", "agent.yaml")
SOUND = Package(Path("worker"), "worker", "", MANIFEST)
BROKEN = Package(Path("worker"), "worker", "", error=ErrorBody(code="package_invalid", message="agent.yaml:1:1: no"))


def agent(phase: Phase, last_exit: LastExit | None = None, package: Package | None = SOUND) -> AgentRecord:
    registry = AgentRegistry("here", Path("/nowhere"))
    row = AgentRow(id="worker", package="worker", name="worker", desired=Desired.RUNNING)
    record = registry.add(row, package)
    instance = registry.instance(record, 0)
    instance.phase, instance.manifest, instance.last_exit = phase, MANIFEST, last_exit
    return record


def happened(*causes: Cause, kind: str = "instance", numbered: bool = True) -> list[EventView]:
    return [
        EventView(
            id=number + 1 if numbered else 0,
            time=NOON + timedelta(seconds=number),
            node="here",
            agent_id="worker",
            instance_id="worker-0" if kind == "instance" else "",
            kind=kind,
            status=AgentStatus.ERROR,
            cause=cause,
        )
        for number, cause in enumerate(causes)
    ]


def no_others() -> AgentRegistry:
    return AgentRegistry("here", Path("/nowhere"))


def test_a_slot_that_is_held_is_told_with_its_holder() -> None:
    words = "cannot start worker-0: its slot is held by 4711"
    record = agent(Phase.WAITING, LastExit(terminated_at=NOON, reason=words))
    why = explain(record, no_others(), happened(Cause(actor="manager", code="slot_busy", detail=words)))

    assert why.code == "slot_busy"
    assert why.summary == f"worker-0 could not be started: {words}; it will be started again"
    assert why.hint == "end the process named, which an earlier instance has left behind"
    assert [step.what for step in why.steps] == [f"worker-0: {words}"]


def test_without_the_database_what_is_remembered_is_told_and_that_more_is_missing() -> None:
    record = agent(Phase.FAILED, LastExit(terminated_at=NOON, reason="crash", exit_code=7))
    why = explain(record, no_others(), [], missing="cannot load the events: the database does not answer in time")

    assert why.code == "crash_loop"
    assert why.summary == "worker-0 exited with code 7, again and again, and was given up"
    assert [step.what for step in why.steps] == [
        "what happened before is not known here: cannot load the events: the database does not answer in time"
    ]


def test_the_order_of_events_that_are_not_saved_yet_is_known_all_the_same() -> None:
    end = happened(Cause(actor="manager", code="crash", detail="exited with code 7"), numbered=False)
    order = happened(Cause(actor="operator:cli", command="restart"), kind="ordered", numbered=False)
    record = agent(Phase.RUNNING, LastExit(terminated_at=NOON, reason="crash", exit_code=7))

    assert explain(record, no_others(), [*end, *order]).code == "running"
    assert explain(record, no_others(), [*order, *end]).code == "restarted"


def test_an_instance_that_comes_back_is_told_with_what_it_fell_by() -> None:
    end = Cause(actor="manager", code="crash", detail="exited with code 7", last_lines=("one", "two"))
    record = agent(Phase.STARTING, LastExit(terminated_at=NOON, reason="crash", exit_code=7))
    why = explain(record, no_others(), happened(end))

    assert (why.code, why.summary) == ("starting", "worker-0 is being started again: it exited with code 7")
    assert why.last_lines == ("one", "two")


@pytest.mark.parametrize("package", [SOUND, BROKEN, None], ids=["sound", "broken", "gone"])
def test_there_is_an_answer_for_every_condition_an_agent_can_be_in(package: Package | None) -> None:
    conditions = itertools.product(Phase, (True, False), Desired, (0, 1), (True, False), ("", "other"))
    for phase, enabled, desired, replicas, removed, waiting_on in conditions:
        record = agent(phase, package=package)
        record.row = dataclasses.replace(record.row, enabled=enabled, desired=desired, replicas=replicas)
        record.removed, record.waiting_on, record.waiting_for = removed, waiting_on, waiting_on and "waiting for it"
        for instances in (record.instances, dict[int, Instance]()):
            record.instances = instances
            why = explain(record, no_others(), [])

            assert why.code
            assert why.summary
            assert "None" not in why.summary.replace("code None", "").replace("signal None", "")
