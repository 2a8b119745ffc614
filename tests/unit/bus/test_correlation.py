"""The correlation id follows a request, and junk does not become one."""

import pytest

from opmas.bus.correlation import correlated, correlation_id, correlation_of, outgoing


def test_outside_of_a_request_there_is_no_id_and_no_header() -> None:
    assert correlation_id() is None
    assert outgoing(None) is None
    assert outgoing({"a": "b"}) == {"a": "b"}


def test_an_id_is_kept_for_as_long_as_the_request() -> None:
    with correlated("abc-1"):
        assert correlation_id() == "abc-1"
        assert outgoing({"a": "b"}) == {"x-correlation-id": "abc-1", "a": "b"}

    assert correlation_id() is None


@pytest.mark.parametrize("junk", [None, "", "two words", "new\nline", "ü", "x" * 129])
def test_a_missing_or_unacceptable_id_is_replaced(junk: str | None) -> None:
    with correlated(junk) as chosen:
        assert chosen == correlation_id()
        assert chosen != junk
        assert len(chosen) == 32


def test_the_header_is_found_however_it_is_capitalised() -> None:
    assert correlation_of({"X-Correlation-Id": "abc"}) == "abc"
    assert correlation_of({"other": "abc"}) is None
