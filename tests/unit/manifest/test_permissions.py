"""What an agent may ask for beyond its own subjects."""

import pytest

from opmas.wire.errors import PackageInvalid
from opmas.wire.manifest import Manifest, covers, parse_manifest, refused_subjects


def asking_for(*subjects: str) -> Manifest:
    listed = ", ".join(f"'{subject}'" for subject in subjects)
    text = f"name: a\nentrypoint: a.py\npermissions: {{subjects: {{publish: [{listed}], subscribe: [{listed}]}}}}\n"
    return parse_manifest(text, "agent.yaml")


@pytest.mark.parametrize(
    "subject",
    [
        "agent.b.command", "agent.*.run", "agent", "agent.>", "run.1.live", "opmas.identified.command",
        "$SYS.>", "$JS.API.>", "_INBOX.>", "_INBOX_x.>", "*", ">", "*.b", ">.a",
        "", ".a", "a.", "a..b", "a b", "a.>.b", "a.b>", "a.b*", "a.{{name()}}", "a.\u00a0b", "x" * 300,
    ],
)  # fmt: skip
def test_a_subject_that_could_be_anothers_is_refused_at_parse(subject: str) -> None:
    with pytest.raises(PackageInvalid, match=r"permissions\.subjects\.publish\[0\]"):
        asking_for(subject)


@pytest.mark.parametrize("subject", ["logs.sshd", "logs.>", "logs.*.x", "findings.security", "events.a.b.>"])
def test_logs_findings_and_events_need_no_ones_word(subject: str) -> None:
    assert refused_subjects(asking_for(subject), ()) == []


def test_anything_else_needs_the_operators_word() -> None:
    manifest = asking_for("orders.new", "logs", "orders.>", "logs.sshd")

    assert refused_subjects(manifest, ()) == ["orders.new", "logs", "orders.>"]
    assert refused_subjects(manifest, ("orders.*",)) == ["logs", "orders.>"]
    assert refused_subjects(manifest, ("orders.>", "logs")) == []


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.>", True),
        ("a.>", "a.*.>", True),
        ("a.*", "a.>", False),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("a.*", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*.c", "a.b.c", True),
    ],
)
def test_a_pattern_covers_what_lies_within_it(pattern: str, subject: str, expected: bool) -> None:
    assert covers(pattern, subject) is expected
