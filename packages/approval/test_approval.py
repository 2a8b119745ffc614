"""Requests in the harness: each rule, and what a human may change."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from opmas.agent import Agent
from opmas.agent.testing import AgentHarness
from opmas.wire.manifest import parse_manifest, validate_config
from opmas.wire.runs import RunStatus

HERE = Path(__file__).parent
MANIFEST = parse_manifest((HERE / "agent.yaml").read_text(), "agent.yaml")


def approval() -> type[Agent]:
    spec = importlib.util.spec_from_file_location("approval_under_test", HERE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Agent] = module.Approval
    return found


@pytest.fixture
def harness() -> AgentHarness:
    config = validate_config(MANIFEST, {"blocked_vendors": ["Shady"]})
    return AgentHarness(approval(), config=config, agent_id="approval")


@pytest.mark.parametrize(
    ("params", "decision", "reason"),
    [
        ({"prNumber": "PR-1", "amount": 480}, "approved", "480 USD is within 1000"),
        ({"prNumber": "PR-1", "amount": 5000, "currency": "EUR"}, "needs_review", "without a review"),
        ({"prNumber": "PR-1", "amount": 480, "currency": "XYZ"}, "needs_review", "no rule for XYZ"),
        ({"prNumber": "PR-1", "amount": 480, "vendor": "Shady"}, "rejected", "Shady is blocked"),
        ({"amount": 480}, "needs_review", "prNumber is missing"),
        ({"prNumber": "PR-1", "amount": "many"}, "needs_review", "not a positive number"),
    ],
)
async def test_the_rules_decide(harness: AgentHarness, params: dict[str, Any], decision: str, reason: str) -> None:
    async with harness:
        result = await harness.run("Please approve", params=params)
        events = [message.json() for message in harness.published("events.approval")]

    assert result.status is RunStatus.COMPLETED
    assert result.data is not None
    assert result.data["decision"] == decision
    assert reason in str(result.data["reasons"])
    assert reason in result.content
    assert len(events) == 1


async def test_a_human_decides_about_large_amounts(harness: AgentHarness) -> None:
    large = {"prNumber": "PR-2", "amount": 25_000}
    async with harness:
        waiting = await harness.run("Please approve", params=large)
        assert waiting.status is RunStatus.WAITING_CONFIRMATION
        assert waiting.confirmation is not None
        assert waiting.confirmation.arguments == large
        assert not harness.published("events.approval")
        approved = await harness.resume(waiting, confirmed=True, arguments=large | {"amount": 20_000}, note="less")
        declined = await harness.resume(await harness.run("x", params=large), confirmed=False, note="too much")
        waiting = await harness.run("x", params=large)
        forbidden = await harness.resume(waiting, confirmed=True, arguments=large | {"vendor": "Shady"})

    results = [each.data or {} for each in (approved, declined, forbidden)]
    assert [result["decision"] for result in results] == ["approved", "rejected", "rejected"]
    assert results[0]["amount"] == 20_000
    assert "too much" in str(results[1]["reasons"])
