"""What of the fleet's history a tenant is shown."""

from datetime import UTC, datetime

import pytest

from management_api.tenancy import shown
from opmas.wire.views import Cause, EventView


def event(number: int) -> EventView:
    return EventView(
        id=number,
        time=datetime.now(UTC),
        node="n",
        agent_id="mine" if number % 3 == 0 else "theirs",
        kind="exit",
        cause=Cause(),
    )


@pytest.mark.parametrize(
    ("after", "limit", "ids", "following"),
    [
        (None, 2, [6, 9], 10),  # the latest
        (0, 2, [3, 6], 6),  # the first, and there are more
        (6, 2, [9], 10),
        (9, 2, [], 10),  # what was passed over need not be looked at again
    ],
)
def test_a_tenant_gets_as_many_of_its_own_events_as_it_asks_for(
    after: int | None, limit: int, ids: list[int], following: int
) -> None:
    rows = [event(number) for number in range(1, 11) if after is None or number > after]

    found, position = shown(rows, 10, lambda agent_id: agent_id == "mine", after, limit)

    assert ([row.id for row in found], position) == (ids, following)
