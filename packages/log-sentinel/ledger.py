"""What the sentinel knows: who failed how often, and who was reported. Pure: time is given, nothing is sent.

The ledger is a fold: the same lines and findings in the same order give the same ledger, which is how it is made again
after a crash.
"""

import re
from collections import deque
from dataclasses import dataclass, field

# Greedy: a user name may itself contain " from 10.0.0.1 port 1"; sshd's own words come last.
_FAILED = re.compile(r"Failed password for (?P<invalid>invalid user )?(?P<user>.*) from (?P<address>\S{1,64}) port \d")

_ADDRESSES = 50_000  # remembered at most, the one not seen for longest forgotten: a flood must not fill the memory
_ATTEMPTS = 1_000  # remembered for each
_USERS = 10  # named in a finding


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed password; `at` in unix seconds."""

    at: float
    user: str
    known_user: bool
    subject: str


@dataclass(slots=True)
class Suspect:
    """An address and what it tried within the window."""

    address: str
    attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=_ATTEMPTS))
    reported_at: float | None = None

    @property
    def users(self) -> list[str]:
        """The names it tried, each once, in order."""
        return list(dict.fromkeys(attempt.user for attempt in self.attempts))[:_USERS]


class Ledger:
    """Counts failed passwords per address over `window_s` seconds; at `threshold` of them an address is due."""

    def __init__(self, threshold: int, window_s: float, addresses: int = _ADDRESSES) -> None:
        self.threshold = threshold
        self.window_s = window_s
        self._addresses = addresses
        self._suspects: dict[str, Suspect] = {}
        self._open: set[str] = set()  # who failed since they were last judged

    def __len__(self) -> int:
        return len(self._suspects)

    def saw(self, line: str, at: float, subject: str) -> bool:
        """Take a log line in; say whether it was a failed password."""
        found = _FAILED.search(line)
        if found is None:
            return False
        suspect = self._suspect(found["address"])
        suspect.attempts.append(Attempt(at, found["user"], found["invalid"] is None, subject))
        self._open.add(suspect.address)
        return True

    def reported(self, address: str, at: float) -> None:
        """Remember that a finding about `address` was published."""
        self._suspect(address).reported_at = at
        self._open.discard(address)

    def due(self, now: float) -> list[Suspect]:
        """Return who is to be reported now; they stay due until they are `reported`."""
        suspects = [self._suspects[address] for address in sorted(self._open) if address in self._suspects]
        due = [suspect for suspect in suspects if self._is_due(suspect, now)]
        self._open = {suspect.address for suspect in due}
        return due

    def _is_due(self, suspect: Suspect, now: float) -> bool:
        oldest = now - self.window_s
        while suspect.attempts and suspect.attempts[0].at < oldest:
            suspect.attempts.popleft()
        if suspect.reported_at is not None and suspect.reported_at >= oldest:
            return False
        return len(suspect.attempts) >= self.threshold

    def _suspect(self, address: str) -> Suspect:
        suspect = self._suspects.pop(address, None) or Suspect(address)
        self._suspects[address] = suspect  # last again: the first is the one not seen for longest
        if len(self._suspects) > self._addresses:
            del self._suspects[next(iter(self._suspects))]
        return suspect

    def worst(self, count: int) -> list[Suspect]:
        """Return the addresses with the most attempts, most first."""
        return sorted(self._suspects.values(), key=lambda suspect: -len(suspect.attempts))[:count]
