"""The `logs` query over real log files: order, cursors, and answers that must fit into one message."""

from pathlib import Path

import pytest

from agent_manager.instance import Instance
from agent_manager.logs import read_logs
from agent_manager.process.logwriter import LogWriter
from agent_manager.process.slot import Slot
from opmas.wire.errors import InvalidRequest
from opmas.wire.params import LogsParams
from opmas.wire.views import LogsView

MESSAGE_BYTES = 1_000_000


def instance(folder: Path, ordinal: int, lines: list[str]) -> Instance:
    slot = Slot(folder / str(ordinal))
    slot.path.mkdir()
    write(slot, lines)
    return Instance("a", ordinal, "here", slot)


def write(slot: Slot, lines: list[str]) -> None:
    log = LogWriter(str(slot.path / "log"), 50_000_000, 5)
    log.write("out", "".join(f"{line}\n" for line in lines).encode())
    log.close()


def read(instances: list[Instance], **params: object) -> LogsView:
    return read_logs("a", instances, LogsParams.model_validate(params))


def follow(instances: list[Instance], after: str, **params: object) -> list[str]:
    found: list[str] = []
    while (view := read(instances, after=after, **params)).lines:
        assert len(view.model_dump_json()) < MESSAGE_BYTES
        found += [line.line for line in view.lines]
        after = view.next
    return found


@pytest.mark.parametrize("text", ["x", "ä" * 300, "\x01\x02" * 200, '"\\' * 500, "long " * 10_000])
def test_a_follower_gets_every_line_however_many_answers_that_takes(tmp_path: Path, text: str) -> None:
    instances = [instance(tmp_path, ordinal, ["first"]) for ordinal in range(3)]
    start = read(instances).next
    count = 3_000_000 // (len(text.encode()) + 200) // 3
    for each in instances:
        write(each.slot, [f"{each.ordinal} {number} {text}" for number in range(count)])

    found = [line.rpartition(" ")[0].split(" ")[:2] for line in follow(instances, start)]

    for each in instances:
        mine = [int(number) for ordinal, number in found if ordinal == str(each.ordinal)]
        assert mine == list(range(count))


def test_a_follower_who_filters_misses_nothing_either(tmp_path: Path) -> None:
    one = instance(tmp_path, 0, ["first"])
    start = read([one]).next
    write(one.slot, [f"{'odd' if number % 2 else 'even'} {number} {'x' * 500}" for number in range(4000)])

    assert [int(line.split()[1]) for line in follow([one], start, grep="ODD")] == list(range(1, 4000, 2))


def test_the_last_lines_are_merged_by_time_and_fit_into_a_message(tmp_path: Path) -> None:
    instances = [instance(tmp_path, ordinal, ["x" * 60_000] * 20) for ordinal in range(2)]

    view = read(instances, tail=40)

    assert len(view.model_dump_json()) < MESSAGE_BYTES
    assert [line.time for line in view.lines] == sorted(line.time for line in view.lines)
    assert view.lines[-1].instance == "a-1"


def test_no_line_is_asked_for_and_none_given(tmp_path: Path) -> None:
    assert read([instance(tmp_path, 0, ["a", "b"])], tail=0).lines == ()


def test_a_line_too_long_for_an_answer_says_that_it_is_cut(tmp_path: Path) -> None:
    view = read([instance(tmp_path, 0, ["y" * 100_000])])

    assert view.lines[0].line.endswith("… [cut]")


@pytest.mark.parametrize("after", ["nonsense", "W10=", "IiI=", "ey"])
def test_a_cursor_that_cannot_be_read_is_refused_with_a_hint(tmp_path: Path, after: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot continue after"):
        read([instance(tmp_path, 0, ["a"])], after=after)


@pytest.mark.parametrize("end", ["-1", "²", "9" * 40, "", "x"])
def test_a_cursor_made_up_by_a_stranger_reads_from_the_start_at_worst(tmp_path: Path, end: str) -> None:
    one = instance(tmp_path, 0, ["a", "b"])
    _, cursor = one.slot.log.tail(1)

    lines, _ = one.slot.log.read_since(f"{cursor.rpartition('-')[0]}-{end}")

    assert [line.text for line in lines] == ["a", "b"]
