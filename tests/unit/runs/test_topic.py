"""The newest events of a run, as its followers find them."""

from management_api.runs.intake import new_run_id
from management_api.runs.topic import Topic
from management_api.store.rows import StoredEvent


def events(first: int, last: int, size: int = 2) -> list[StoredEvent]:
    return [StoredEvent(seq, "x" * size) for seq in range(first, last + 1)]


def numbers(topic: Topic, position: int) -> list[int] | None:
    found = topic.after(position)
    return None if found is None else [event.seq for event in found]


def topic_with(*added: list[StoredEvent]) -> Topic:
    topic = Topic(is_complete=True, until=0)
    for some in added:
        topic.add(some)
    return topic


def test_events_are_found_from_any_position_within_the_tail() -> None:
    topic = topic_with(events(1, 3), events(4, 5))

    assert [numbers(topic, position) for position in (0, 3, 5, 9)] == [[1, 2, 3, 4, 5], [4, 5], [], []]


def test_what_comes_twice_is_kept_once_and_what_is_missing_begins_anew() -> None:
    topic = topic_with(events(1, 3), events(2, 4), events(1, 2), events(8, 9))

    assert numbers(topic, 7) == [8, 9]
    assert numbers(topic, 4) is None


def test_what_only_the_record_has_is_said_to_be_missing() -> None:
    topic = topic_with(events(1, 2))
    topic.seq = 5

    assert numbers(topic, 0) == [1, 2]
    assert numbers(topic, 2) is None


def test_the_tail_is_bounded_in_number_and_size() -> None:
    assert numbers(topic_with(events(1, 2000)), 1400) is None
    assert numbers(topic_with(events(1, 10, 100_000)), 8) == [9, 10]
    assert numbers(topic_with(events(1, 1, 1_000_000)), 0) == [1]


def test_run_ids_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(200)]

    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)
    assert {len(one) for one in ids} == {32}
    assert len(set(ids)) == 200
