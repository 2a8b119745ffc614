"""What a list shows: filters, order, pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from management_api.listing import Selection
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import AgentView

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def agent(name: str, *, age: int = 0, **fields: Any) -> AgentView:
    whole: dict[str, Any] = {
        "id": name.lower(), "name": name, "type": "example", "version": "1", "description": "", "package": "p",
        "status": AgentStatus.RUNNING, "desired": Desired.RUNNING, "enabled": True, "replicas": 1,
        "created_at": NOON - timedelta(hours=age), "updated_at": NOON,
    }  # fmt: skip
    return AgentView(**(whole | fields))


FLEET = (
    agent("Crow", age=1, labels={"team": "a", "tier": "1"}),
    agent("ant", age=3, labels={"team": "a"}),
    agent("Bee", age=2, description="flies like a CROW"),
)


def ids(**wanted: Any) -> list[str]:
    return [found.id for found in Selection(**wanted).page(FLEET).agents]


def test_agents_come_by_id_unless_another_order_is_asked_for() -> None:
    assert ids() == ["ant", "bee", "crow"]
    assert ids(sort="-id") == ["crow", "bee", "ant"]
    assert ids(sort="name") == ["bee", "crow", "ant"]
    assert ids(sort="created_at") == ["ant", "bee", "crow"]


def test_equals_are_ordered_by_id_in_both_directions() -> None:
    assert ids(sort="type") == ids(sort="-type") == ["ant", "bee", "crow"]


def test_all_labels_must_match() -> None:
    assert ids(label=["team=a"]) == ["ant", "crow"]
    assert ids(label=["team=a", "tier=1"]) == ["crow"]
    assert ids(label=["team="]) == []


def test_a_search_finds_parts_of_id_name_and_description_in_any_case() -> None:
    assert ids(search="cROW") == ["bee", "crow"]
    assert ids(search="zebra") == []


def test_the_total_counts_what_matches_before_paging() -> None:
    page = Selection(limit=1, offset=1, search="crow").page(FLEET)

    assert ([found.id for found in page.agents], page.total) == (["crow"], 2)
    assert Selection(offset=7).page(FLEET).agents == ()


def test_pages_put_together_are_the_whole() -> None:
    assert [found for start in range(3) for found in ids(limit=1, offset=start)] == ids()


@pytest.mark.parametrize(
    "wanted",
    [{"sort": "pid"}, {"limit": 0}, {"limit": 1001}, {"offset": -1}, {"label": ["team"]}, {"label": ["=a"]}, {"x": 1}],
)
def test_what_cannot_be_asked_for_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selection(**wanted)


def test_only_what_was_asked_for_travels() -> None:
    assert Selection().asked().model_dump(exclude_unset=True) == {}
    assert Selection(label=["a=1", "b=2"]).asked().model_dump(exclude_unset=True) == {"label": "a=1"}
