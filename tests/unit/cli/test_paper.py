"""What commands print, and how errors become exit codes."""

import pytest

from management_api import errors as http_errors
from opmas.bus import BusUnavailable
from opmas.cli import paper
from opmas.cli.failure import Exit, Failure, exit_of
from opmas.cli.logs import moment
from opmas.wire import errors


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3661, "1h1m"), (90_061, "1d1h")],
)
def test_a_duration_is_shown_in_its_largest_two_units(seconds: float | None, shown: str) -> None:
    assert paper.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (0, "0 B"), (999, "999 B"), (1024, "1 KB"), (34_000_000, "32.4 MB")]
)
def test_a_size_is_shown_with_at_most_three_digits_before_the_point(count: int | None, shown: str) -> None:
    assert paper.size(count) == shown


def test_a_table_is_aligned_and_ends_lines_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    paper.table(("A", "LONG HEAD"), [("agent-1", ""), ("x", None), ("日本", "wide")])

    assert capsys.readouterr().out == "A        LONG HEAD\nagent-1  -\nx        -\n日本     wide\n"


def test_what_agents_say_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    paper.table(("A",), [("evil\x1b]0;x\x07\nname",)])

    assert capsys.readouterr().out == "A\nevil ]0;x  name\n"


def test_every_error_that_a_caller_can_act_on_has_an_exit_code_of_its_own() -> None:
    failed = {"internal_error", "package_invalid", "agent_failed", "too_large", "method_not_allowed"}
    codes = {kind.code for kind in errors._BY_CODE.values()} | set(http_errors._CODES.values())

    assert {code for code in codes if exit_of(code) is Exit.FAILED} == failed & codes
    assert Failure("x", code=errors.DeadlineExceeded.code).exit == 7
    assert exit_of(BusUnavailable.code) is Exit.FAILED


@pytest.mark.parametrize("text", ["yesterday", "5", "5 m", "-5m", "2026-13-01", ""])
def test_a_since_that_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(Failure) as caught:
        moment(text)
    assert caught.value.exit is Exit.USAGE


@pytest.mark.parametrize("text", ["5m", "0s", "2d", "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00Z"])
def test_a_since_is_ago_or_a_time(text: str) -> None:
    assert paper.moment(moment(text)).tzinfo is not None


def test_a_table_in_a_narrow_terminal_keeps_the_ids_by_which_its_rows_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run, session = "a" * 32, "b" * 32

    names = ("RUN", "SESSION", "STATUS", "MESSAGE")
    paper.table(names, [(run, session, "waiting", "hello " * 9)], ("SESSION", "STATUS"))

    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["RUN", "STATUS", "MESSAGE"]
    assert row.startswith(run + "  waiting  hello")
    assert len(row) == 60
