"""The in-memory bus matches subjects as NATS does."""

import pytest

from opmas.bus.memory import matches


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("logs.sshd", "logs.sshd", True),
        ("logs.sshd", "logs.cron", False),
        ("logs.*", "logs.sshd", True),
        ("logs.*", "logs.sshd.error", False),
        ("logs.*", "logs", False),
        ("*.sshd", "logs.sshd", True),
        ("logs.>", "logs.sshd.error", True),
        ("logs.>", "logs", False),
        ("logs.*.>", "logs.sshd", False),
        ("logs.*.>", "logs.sshd.error", True),
        (">", "anything", True),
    ],
)
def test_wildcards_match_as_in_nats(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected
