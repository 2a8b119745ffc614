"""How an instance ended: its record in the view, a sentence for people, a word for programs. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from agent_manager.process.errors import SlotBusy
from agent_manager.process.record import SlotExit
from opmas.wire.errors import OpmasError
from opmas.wire.views import LastExit

CANNOT_EXECUTE = "cannot_execute"
CANNOT_INSTALL = "cannot install its dependencies"

# Nothing changes by itself about what a manifest asks for and the machine does not have.
FINAL = frozenset({"cannot_install", "model_missing"})

_SENTENCES = {
    "hang": "hang: its heartbeat had stopped, so it was killed",
    "start_timeout": "start_timeout: it was not ready in time, so it was killed",
    "out_of_memory": "out of memory",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no exit to speak of: `code` for programs, `message` for people."""

    code: str
    message: str
    # Trying again as things are would fail again.
    final: bool = False

    @classmethod
    def of(cls, error: OpmasError) -> "Failure":
        """What kept an instance from being launched."""
        if error.code in FINAL:
            return cls(error.code, error.message, final=True)
        return cls("slot_busy" if isinstance(error, SlotBusy) else "cannot_launch", error.message)


SHIM_KILLED = Failure("shim_killed", "its shim was killed")


@dataclass(frozen=True, slots=True)
class Ending:
    """One end. `verdict`: why the manager itself ended it, if it did; `asked`: somebody wanted it to end."""

    exit: SlotExit | None
    failure: Failure | None
    verdict: str
    asked: bool
    succeeded: bool

    @property
    def code(self) -> str:
        """`stopped`, `completed`, `crash`, `killed`, `out_of_memory`, `hang`, `start_timeout`, or why it never was."""
        if self.exit is None:
            return self.failure.code if self.failure else "unknown"
        if self.verdict or self.asked:
            return self.verdict or "stopped"
        if self.exit.error is not None:
            return CANNOT_EXECUTE
        if self.exit.oom:
            return "out_of_memory"
        if self.exit.signal is not None:
            return "killed"
        return "completed" if self.succeeded else "crash"

    def last_exit(self) -> LastExit:
        """What the instance's view says of it."""
        if self.exit is None:
            return LastExit(terminated_at=datetime.now(UTC), reason=self.failure.message if self.failure else "unknown")
        unexecuted = self.exit.error if self.code == CANNOT_EXECUTE else None
        return LastExit(
            exit_code=self.exit.code,
            signal=self.exit.signal,
            terminated_at=datetime.fromtimestamp(self.exit.ended_at, UTC),
            reason=unexecuted or self.code,
        )

    def sentence(self, policy: str) -> str:
        """What happened, and what the restart policy says to it."""
        last_exit, code = self.last_exit(), self.code
        if code == "crash":
            what = f"exited with code {last_exit.exit_code}"
        elif code == "killed":
            what = f"killed by signal {last_exit.signal}"
        else:
            what = _SENTENCES.get(code, last_exit.reason)
        return f"{what}; {policy}" if policy else what
