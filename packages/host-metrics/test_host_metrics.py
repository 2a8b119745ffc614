"""The agent in the harness: its figures, its query, and one event per crossing."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from opmas.agent import Agent
from opmas.agent.testing import AgentHarness
from opmas.wire.errors import InvalidRequest
from opmas.wire.manifest import parse_manifest, validate_config

HERE = Path(__file__).parent
MANIFEST = parse_manifest((HERE / "agent.yaml").read_text(), "agent.yaml")


def host_metrics() -> type[Agent]:
    spec = importlib.util.spec_from_file_location("host_metrics_under_test", HERE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Agent] = module.HostMetrics
    return found


def harness(**config: Any) -> AgentHarness:
    return AgentHarness(host_metrics(), config=validate_config(MANIFEST, config), agent_id="host-metrics")


async def test_the_figures_of_the_machine_are_the_agents_metrics() -> None:
    async with harness() as agent:
        metrics = await agent.metrics()

    assert 0 < metrics["memory_percent"] < 100
    assert metrics["disk_free_bytes"] > 0


async def test_a_crossing_is_one_event_and_the_way_back_another() -> None:
    async with harness(memory_percent=0.001) as agent:
        for _ in range(3):
            await agent.metrics()
        snapshot = await agent.query("snapshot")
        await agent.reload(validate_config(MANIFEST, {"memory_percent": 100}))
        await agent.metrics()
        events: list[Any] = [message.json() for message in agent.published("events.host")]

    assert isinstance(snapshot, dict)
    assert "memory_percent" in snapshot["high"]  # type: ignore[operator]  # any JSON value
    memory = [event["event"] for event in events if "memory" in event["event"]]
    assert memory == ["host.memory_percent.high", "host.memory_percent.normal"]


def test_a_threshold_above_100_percent_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cpu_percent"):
        validate_config(MANIFEST, {"cpu_percent": 101})
