"""Writing and reading one log, without processes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_manager.process.logfile import LogReader
from agent_manager.process.logwriter import LINE_BYTES, LogWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def texts(path: Path, count: int = 1000) -> list[tuple[str, str]]:
    return [(line.stream, line.text) for line in LogReader(path).tail(count)[0]]


def test_a_line_is_one_json_object(path: Path) -> None:
    log = LogWriter(str(path), 10_000, 5)
    log.write("out", 'quote " and tab\tund Käse\n'.encode())
    log.close()

    entry = json.loads(path.read_bytes())
    assert entry == {"t": pytest.approx(entry["t"]), "s": "out", "l": 'quote " and tab\tund Käse'}


@given(chunks=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"a", b"\n")), max_size=20))
def test_lines_do_not_depend_on_how_the_bytes_arrive(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogWriter(str(path), 10_000_000, 2)
    for chunk in chunks:
        log.write("err", chunk)
    log.close()

    *ended, rest = b"".join(chunks).split(b"\n")
    expected = [*ended, rest] if rest else ended
    assert texts(path) == [("err", line.decode(errors="replace")) for line in expected]


def test_the_two_streams_do_not_mix_within_a_line(path: Path) -> None:
    log = LogWriter(str(path), 10_000, 5)
    log.write("out", b"from ")
    log.write("err", b"oops\n")
    log.write("out", b"out\n")
    log.close()

    assert texts(path) == [("err", "oops"), ("out", "from out")]


def test_an_over_long_line_is_cut_with_a_count_and_the_next_is_whole(path: Path) -> None:
    log = LogWriter(str(path), 10_000_000, 5)
    for _ in range(8):
        log.write("out", b"x" * 65536)
    log.write("out", b"\nnext\n")
    log.close()

    assert texts(path) == [("out", "x" * LINE_BYTES + " [cut: 262144 more bytes]"), ("out", "next")]


def test_a_new_writer_goes_on_behind_a_line_torn_by_a_kill(path: Path) -> None:
    path.write_bytes(b'{"t":1.0,"s":"out","l":"whole"}\n{"t":2.0,"s":"ou')
    log = LogWriter(str(path), 10_000, 5)
    log.write("out", b"next\n")
    log.close()

    assert texts(path) == [("out", "whole"), ("out", "next")]


@pytest.mark.parametrize("files", [1, 2, 5])
def test_files_are_bounded_in_size_and_number(path: Path, files: int) -> None:
    log = LogWriter(str(path), 1000, files)
    for number in range(1000):
        log.write("out", b"%d\n" % number)
    log.close()

    kept = list(path.parent.iterdir())
    assert len(kept) == files
    assert all(file.stat().st_size <= 1000 for file in kept)
    assert texts(path)[-1] == ("out", "999")


def test_a_log_that_cannot_be_opened_loses_lines_with_a_count(path: Path) -> None:
    log = LogWriter(str(path / "no" / "folder"), 1000, 2)
    log.write("out", b"a\nb\n")
    log.write("out", b"c\n")
    (path / "no").mkdir(parents=True)
    log.write("out", b"d\n")
    log.close()

    assert texts(path / "no" / "folder") == [
        ("err", "[3 lines lost: cannot write the log: No such file or directory]"),
        ("out", "d"),
    ]


def test_tail_gives_the_last_lines_and_where_to_go_on(path: Path) -> None:
    log = LogWriter(str(path), 2000, 10)
    for number in range(200):
        log.write("out", b"%d\n" % number)
    lines, cursor = LogReader(path).tail(120)
    assert [line.text for line in lines] == [str(number) for number in range(80, 200)]

    assert LogReader(path).read_since(cursor) == ([], cursor)
    log.write("out", b"more\nhalf")
    lines, cursor = LogReader(path).read_since(cursor)
    assert [line.text for line in lines] == ["more"]
    log.close()
    assert [line.text for line in LogReader(path).read_since(cursor)[0]] == ["half"]


def test_a_follower_is_not_misled_by_an_inode_used_again(path: Path) -> None:
    log = LogWriter(str(path), 1000, 1)
    log.write("out", b"old\n" * 3)
    _, cursor = LogReader(path).tail(1)
    path.write_bytes(b'{"t":9.0,"s":"out","l":"new"}\n')  # same inode, another log

    lines, _ = LogReader(path).read_since(cursor)

    assert [line.text for line in lines] == ["new"]
    log.close()


def test_a_slow_follower_goes_on_with_the_oldest_file_left(path: Path) -> None:
    log = LogWriter(str(path), 1000, 2)
    log.write("out", b"0\n")
    _, cursor = LogReader(path).tail(1)
    for number in range(1, 200):
        log.write("out", b"%d\n" % number)
    log.close()

    lines, _ = LogReader(path).read_since(cursor)

    numbers = [int(line.text) for line in lines]
    assert numbers == list(range(numbers[0], 200))


@pytest.mark.parametrize("torn", [b"\0" * 100, b"9" * 20, b'{"t":', b"x"])
def test_a_log_whose_first_line_was_torn_by_a_power_loss_shows_the_others(path: Path, torn: bytes) -> None:
    path.write_bytes(torn)
    log = LogWriter(str(path), 1000, 2)
    log.write("out", b"whole\n")
    lines, cursor = LogReader(path).tail(10)
    log.write("out", b"next\n")
    log.close()

    assert [line.text for line in lines] == ["whole"]
    assert [line.text for line in LogReader(path).read_since(cursor)[0]] == ["next"]


def test_no_log_is_no_lines(path: Path) -> None:
    assert LogReader(path).tail(10) == ([], "")
    assert LogReader(path).read_since("") == ([], "")
