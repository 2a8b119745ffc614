"""What a stream of a run yields: the API's four kinds of events, with the number to resume after and typed contents."""

from typing import Self, TypeVar

import httpx2
from pydantic import ValidationError

from opmas.wire.errors import OpmasError
from opmas.wire.invocation import AgentRunResponse, Body, ConfirmationDetails, StreamEvent
from opmas.wire.messages import Message, Progress
from opmas.wire.runs import ToolCall

Told = TypeVar("Told", bound=Message)


class Confirmation(Body):
    """What a run waits for: pass `confirmation_id` to `confirm`."""

    confirmation_id: str
    confirmation_details: ConfirmationDetails


class StreamedEvent(StreamEvent):
    """One event of a run; `type` is `start`, `chunk`, `end` or `error`, and nothing follows the last two."""

    id: str = ""
    """Pass it as `last_event_id` to go on after this event, in another process too."""

    @classmethod
    def of(cls, event: httpx2.ServerSentEvent) -> Self:
        """Read an event. Raises `OpmasError` when it is none of a run."""
        try:
            return cls.model_validate_json(event.data).model_copy(update={"id": event.id})
        except ValidationError as error:
            raise OpmasError("cannot understand an event of the run's stream: is it OPMAS?") from error

    @property
    def is_last(self) -> bool:
        """Whether the run is over."""
        return self.type in {"end", "error"}

    @property
    def tool(self) -> ToolCall | None:
        """The tool that was called or has ended, if this says so."""
        return _told(self, "tool", ToolCall)

    @property
    def progress(self) -> Progress | None:
        """How far the run is, if this says so."""
        return _told(self, "progress", Progress)

    @property
    def confirmation(self) -> Confirmation | None:
        """What the run waits for a human to decide, if it does."""
        return confirmation_in(self.data) if self.type == "chunk" else None

    @property
    def run(self) -> AgentRunResponse | None:
        """The whole run, which the last event brings."""
        if not self.is_last or not self.data:
            return None
        try:
            return AgentRunResponse.model_validate(self.data)
        except ValidationError:  # somebody else's end, told in another shape
            return None


def _told(event: StreamedEvent, name: str, kind: type[Told]) -> Told | None:
    given = (event.data or {}).get(name) if event.type == "chunk" else None
    try:
        return kind.model_validate(given) if isinstance(given, dict) else None
    except ValidationError:  # an agent's own data, by chance of that name
        return None


def confirmation_in(data: object) -> Confirmation | None:
    """Find the confirmation that a run waits for in its `data`."""
    if not isinstance(data, dict) or data.get("requiresConfirmation") is not True:
        return None
    try:
        return Confirmation.model_validate(data)
    except ValidationError:  # an agent's own data, by chance of that name
        return None
