"""What a client makes of what agents say."""

from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from opmas.client.events import StreamedEvent


@pytest.mark.parametrize(
    "data", [{"tool": {"size": 5}}, {"tool": "hammer"}, {"progress": {"done": "soon"}}, {"requiresConfirmation": True}]
)
def test_data_of_an_agent_that_merely_looks_like_ours_is_left_alone(data: dict[str, JsonValue]) -> None:
    event = StreamedEvent(type="chunk", run_id="r", data=data, timestamp=datetime.now(UTC))

    assert (event.tool, event.progress, event.confirmation) == (None, None, None)
    assert event.data == data
