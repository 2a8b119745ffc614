"""What a check has found: a verdict, what was seen and why it matters, and what to do."""

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `opmas doctor`. `fail`: something does not work; `warn`: it works, but not as it should."""

    check: str
    verdict: Verdict
    what: str
    hint: str = ""

    def document(self) -> dict[str, str]:
        """Shape this for `--json`."""
        return asdict(self)


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", what)


def warn(check: str, what: str, hint: str) -> Finding:
    """It works, but not as it should."""
    return Finding(check, "warn", what, hint)


def fail(check: str, what: str, hint: str) -> Finding:
    """It does not work."""
    return Finding(check, "fail", what, hint)
