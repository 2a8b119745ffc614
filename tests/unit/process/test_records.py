"""Specs and records as they travel and lie on disk."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_manager.process import procfs, record
from agent_manager.process.record import SlotExit, SlotState
from agent_manager.process.spec import InstanceSpec, Limits

STATE = SlotState(2, 20, 3, 30, "boot", 1, 4, "echo", 0, 5.5)


def test_a_spec_arrives_as_it_was_sent() -> None:
    spec = InstanceSpec(
        "echo", 1, "/run/echo/1", 3, "/", {"A": "ü"}, argv=("sh",), limits=Limits(nofile=9), writable=("/x",)
    )

    assert InstanceSpec.from_json(spec.to_json()) == spec


def test_a_spec_shows_no_secret() -> None:
    assert "s3cret" not in repr(InstanceSpec("echo", 0, "/s", 1, "/", {"TOKEN": "s3cret"}, argv=("sh",)))


@pytest.mark.parametrize("fields", [{}, {"entry": ("a", "b"), "argv": ("sh",)}, {"entry": ("a",)}])
def test_a_spec_is_either_forked_or_executed(fields: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="cannot describe echo-0"):
        InstanceSpec("echo", 0, "/s", 1, "/", {}, **fields)


def test_a_record_survives_the_disk_and_later_fields(tmp_path: Path) -> None:
    path = tmp_path / "state"
    record.save(path, STATE)
    assert SlotState.load(path) == STATE

    path.write_text(json.dumps(dataclasses.asdict(STATE) | {"later": 1}))
    assert SlotState.load(path) == STATE


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', "\0" * 100])
def test_a_torn_record_counts_as_absent(tmp_path: Path, content: str) -> None:
    (tmp_path / "exit").write_text(content)

    assert SlotExit.load(tmp_path / "exit") is None
    assert SlotExit.load(tmp_path / "nosuch") is None


def test_reserved_space_leaves_no_trace_in_the_record(tmp_path: Path) -> None:
    record.reserve(tmp_path / "state")
    record.save(tmp_path / "state", STATE)

    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    assert json.loads((tmp_path / "state").read_text()) == dataclasses.asdict(STATE)


def test_one_pass_knows_every_process_and_its_parent() -> None:
    table = procfs.scan()

    own = table[os.getpid()]
    assert own.ppid == os.getppid()
    assert own.rss_bytes > 1_000_000
    assert own.start_ticks == procfs.start_ticks(os.getpid())
    assert os.getpid() in procfs.descendants(os.getppid(), procfs.children_by_parent(table))


def test_descendants_come_parents_first() -> None:
    assert procfs.descendants(1, {1: [2, 3], 3: [4], 4: [5], 9: [10]}) == [2, 3, 4, 5]


def test_a_pid_nobody_has_is_nobody() -> None:
    assert procfs.stat(2**22 + 1) is None


def test_the_template_imports_nothing_it_would_cost_every_instance() -> None:
    code = "import sys, agent_manager.process.template; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert not {"asyncio", "pydantic", "nats", "sqlalchemy", "structlog", "opmas.wire"} & set(loaded)
