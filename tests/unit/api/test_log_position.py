"""Where the reader of a log stream stands: a stream cut anywhere goes on without a gap and without a repetition."""

import heapq
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from management_api.follow import LogPosition
from opmas.wire.errors import InvalidRequest
from opmas.wire.views import LogLine, LogsView

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

Log = dict[str, list[int]]  # of each instance, the second in which each line was written


def answer(log: Log, cursor: str, room: int) -> LogsView:
    """Answer as the manager does: each instance's lines since the cursor while there is room, merged by time."""
    after = json.loads(cursor)
    batches = []
    for instance, times in log.items():
        start = after.get(instance, 0)
        taken = times[start : start + room]
        room -= len(taken)
        batches.append(
            [
                LogLine(
                    time=NOON + timedelta(seconds=time), stream="stdout", instance=instance, line=f"{instance} {number}"
                )
                for number, time in enumerate(taken, start)
            ]
        )
        after[instance] = start + len(taken)
    return LogsView(
        agent_id="a", lines=tuple(heapq.merge(*batches, key=lambda line: line.time)), next=json.dumps(after)
    )


def grown(log: Log, more: Log) -> Log:
    return {name: log.get(name, []) + more.get(name, []) for name in ("a-0", "a-1", "a-2")}


logs = st.dictionaries(st.sampled_from(["a-0", "a-1", "a-2"]), st.lists(st.integers(0, 9), max_size=8))


@given(first=logs, more=logs, cuts=st.lists(st.integers(0, 20), min_size=1, max_size=6), room=st.integers(3, 30))
def test_a_reader_that_is_cut_anywhere_is_told_every_line_once(
    first: Log, more: Log, cuts: list[int], room: int
) -> None:
    told: list[str] = []
    last_id = "{}"
    log = grown({}, first)
    for number, cut in enumerate([*cuts, *[99] * 17]):
        lines, end = LogPosition.parse(last_id).read(answer(log, LogPosition.parse(last_id).cursor, room))
        for data, identity in lines[:cut]:
            told.append(json.loads(data)["line"])
            last_id = identity or last_id
        if cut >= len(lines):
            last_id = str(end)
        if number == 0:
            log = grown(first, more)

    assert sorted(told) == sorted(f"{name} {number}" for name, times in log.items() for number in range(len(times)))


def test_a_long_cursor_is_told_once_an_answer() -> None:
    view = answer({"a-0": [1, 2, 3]}, "{}", 9)

    lines, end = LogPosition(json.dumps({"x": "y" * 2000})).read(view)

    assert [identity for _, identity in lines] == [None, None, str(end)]


@pytest.mark.parametrize("text", ["c~", "c~a", "c~a:", "c~:1", "c~a:-1", "c~a:²", "c~a:" + "9" * 5000])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        LogPosition.parse(text)
