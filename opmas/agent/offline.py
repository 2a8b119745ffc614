"""A model that answers without a provider, key or network: `offline: ` and what was said, always the same.

For warming up templates, for tests, and for the first steps with an agent before a provider is chosen.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse


@dataclass
class OfflineModel(Model):
    """Echoes the last message of the user; counts words as tokens."""

    id: str = "offline-echo"
    name: str | None = "OfflineModel"
    provider: str | None = "Offline"

    def _answer(self, messages: list[Message]) -> ModelResponse:
        said = next((str(each.content or "") for each in reversed(messages) if each.role == "user"), "")
        read, written = sum(len(str(each.content or "").split()) for each in messages), len(said.split()) + 1
        return ModelResponse(
            role="assistant",
            content=f"offline: {said}",
            response_usage=MessageMetrics(input_tokens=read, output_tokens=written, total_tokens=read + written),
        )

    def invoke(self, messages: list[Message], **_: Any) -> ModelResponse:
        """Answer at once."""
        return self._answer(messages)

    async def ainvoke(self, messages: list[Message], **_: Any) -> ModelResponse:
        """Answer at once."""
        return self._answer(messages)

    def invoke_stream(self, messages: list[Message], **_: Any) -> Iterator[ModelResponse]:
        """Answer word by word."""
        yield from _in_words(self._answer(messages))

    async def ainvoke_stream(self, messages: list[Message], **_: Any) -> AsyncIterator[ModelResponse]:
        """Answer word by word."""
        for part in _in_words(self._answer(messages)):
            yield part

    def _parse_provider_response(self, response: ModelResponse, **_: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: ModelResponse) -> ModelResponse:
        return response


def _in_words(whole: ModelResponse) -> Iterator[ModelResponse]:
    words = str(whole.content).split(" ")
    for number, word in enumerate(words):
        last = number == len(words) - 1
        yield ModelResponse(
            role="assistant",
            content=word if last else word + " ",
            response_usage=whole.response_usage if last else None,
        )
