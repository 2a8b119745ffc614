"""What the registry knows: who an agent is, what it shows, and who proves to be whom."""

from pathlib import Path

import pytest

from agent_manager.lifecycle import Phase
from agent_manager.package import Package
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import AgentRow
from opmas.wire.errors import AgentNotFound, ErrorBody, PackageInvalid
from opmas.wire.manifest import parse_manifest
from opmas.wire.status import AgentStatus, Desired


@pytest.fixture
def registry(tmp_path: Path) -> AgentRegistry:
    return AgentRegistry("here", tmp_path)


def add(
    registry: AgentRegistry, agent_id: str, phases: tuple[Phase, ...] = (), depends_on: tuple[str, ...] = ()
) -> AgentRecord:
    text = f"{{name: {agent_id}, command: [sleep, '1'], depends_on: {list(depends_on)}}}"
    package = Package(Path(agent_id), agent_id, "", parse_manifest(text, "agent.yaml"))
    row = AgentRow(id=agent_id, package=agent_id, name=agent_id, desired=Desired.RUNNING, replicas=len(phases))
    record = registry.add(row, package)
    for ordinal, phase in enumerate(phases):
        registry.instance(record, ordinal).phase = phase
    return record


def test_an_unknown_agent_is_refused_with_the_nearest_name(registry: AgentRegistry) -> None:
    add(registry, "log-sentinel")

    with pytest.raises(AgentNotFound) as raised:
        registry.get("log-sentinal")
    assert "did you mean 'log-sentinel'?" in raised.value.hint
    with pytest.raises(AgentNotFound) as raised:
        registry.get("zzz")
    assert raised.value.hint == "`opmas ls` lists the agents"


def test_an_agent_shows_the_worst_of_its_instances_and_its_reason(registry: AgentRegistry) -> None:
    record = add(registry, "a", (Phase.RUNNING, Phase.FAILED, Phase.SILENT))
    record.instances[1].reason, record.instances[2].reason = "gave up", "is silent"

    assert (record.status, record.reason) == (AgentStatus.ERROR, "gave up")
    assert add(registry, "b", (Phase.RUNNING, Phase.RUNNING)).status is AgentStatus.RUNNING
    assert add(registry, "c").status is AgentStatus.STOPPED


def test_one_that_waits_for_another_is_starting(registry: AgentRegistry) -> None:
    record = add(registry, "a")
    record.waiting_for = "waiting for agent 'b' to be healthy"

    assert (record.status, record.reason) == (AgentStatus.STARTING, record.waiting_for)


def test_a_broken_package_makes_an_error_of_what_is_not_there_and_nothing_of_what_runs(registry: AgentRegistry) -> None:
    record = add(registry, "a", (Phase.RUNNING,))
    record.package = Package(Path("a"), "a", "", error=ErrorBody(code="package_invalid", message="line 3: oops"))

    assert (record.status, record.reason) == (AgentStatus.RUNNING, "line 3: oops")
    record.instances[0].phase = Phase.IDLE
    assert record.status is AgentStatus.ERROR
    with pytest.raises(PackageInvalid, match="cannot start 'a': line 3: oops"):
        record.manifest()


def test_a_token_proves_its_last_holder_and_nobody_once_that_is_gone(registry: AgentRegistry) -> None:
    record = add(registry, "a", (Phase.RUNNING,))
    instance = record.instances[0]
    registry.bind_token(instance, "first")
    registry.bind_token(instance, "second")

    assert registry.token_owner("first") is None
    assert registry.token_owner("second") is instance
    assert registry.token_owner("") is None
    registry.retire(record, instance)
    assert registry.token_owner("second") is None
    registry.bind_token(registry.instance(record, 0), "third")
    registry.remove("a")
    assert registry.token_owner("third") is None


def test_an_instance_is_found_by_its_name_and_a_lone_one_without(registry: AgentRegistry) -> None:
    lone = add(registry, "a", (Phase.RUNNING,)).instances[0]
    add(registry, "b", (Phase.RUNNING, Phase.RUNNING))

    assert registry.find_instance("a", "a-0") is lone
    assert registry.find_instance("a", "") is lone
    for agent_id, name in (("a", "a-1"), ("a", "a-²"), ("a", "b-0"), ("b", ""), ("zzz", "")):
        assert registry.find_instance(agent_id, name) is None


def test_dependents_follow_what_the_manifests_say_now(registry: AgentRegistry) -> None:
    add(registry, "base")
    add(registry, "upper", depends_on=("base",))
    assert [record.id for record in registry.dependents("base")] == ["upper"]

    add(registry, "upper")
    assert registry.dependents("base") == []


def test_forgiving_touches_only_those_who_gave_up_or_wait(registry: AgentRegistry) -> None:
    record = add(registry, "a", tuple(Phase))
    for instance in record.ordered():
        instance.epoch = 3

    record.forgive()

    assert {i.phase for i in record.ordered() if i.epoch == -1} == {Phase.WAITING, Phase.FAILED, Phase.FINISHED}
