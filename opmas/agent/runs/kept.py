"""What a run takes along while it waits for a human: the author's state, what was said, and what was used.

It travels as the state of the confirmation, which is opaque to all but the SDK; so limits and the answer go on where
they were, in whatever instance.
"""

from pydantic import JsonValue, ValidationError

from opmas.wire.messages import Message
from opmas.wire.runs import Assignment, ConfirmationRequest, Usage


class Kept(Message):
    """It, as JSON."""

    state: JsonValue = None
    said: str
    used: Usage

    def along(self, asked: ConfirmationRequest) -> ConfirmationRequest:
        """Send it along with the question."""
        return asked.model_copy(update={"state": self.model_dump(mode="json", exclude_none=True)})


def kept_by(asked: ConfirmationRequest) -> JsonValue:
    """Return the author's part of what goes along with a question."""
    return _read(asked.state).state


def kept_for(assignment: Assignment) -> Kept:
    """Return what the first half of a run kept for the second; nothing at its beginning."""
    return _read(assignment.resume.state if assignment.resume else None)


def _read(state: JsonValue) -> Kept:
    try:
        return Kept.model_validate(state)
    except ValidationError:  # of somebody who speaks the protocol without this SDK, or of nobody
        return Kept(state=state, said="", used=Usage())
