"""A model that answers without a provider, key or network: `offline: ` and what was said, always the same.

For warming up templates, for tests, and for the first steps with an agent before a provider is chosen. A line of the
message that reads `call NAME {"argument": 1}` makes it call that tool, as a model that decided to would: so that tools,
confirmations and teams can be tried without a provider, too.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse


@dataclass
class OfflineModel(Model):
    """Echoes the last message of the user after `prefix`, or calls the tools that it names; counts words as tokens.

    `opening` stands before every message (`$said` in it is what was said, as JSON): with it a model without a mind of
    its own can lead a team. `delay_s` is waited before each word of a streamed answer.
    """

    id: str = "offline-echo"
    name: str | None = "OfflineModel"
    provider: str | None = "Offline"
    prefix: str = "offline: "
    opening: str = ""
    delay_s: float = 0.0

    def _answer(self, messages: list[Message], tools: Sequence[Any] | None) -> ModelResponse:
        last = max((place for place, each in enumerate(messages) if each.role == "user"), default=-1)
        said = str(messages[last].content or "") if last >= 0 else ""
        results = [str(each.content) for each in messages[last + 1 :] if each.role == "tool"]
        calls = [] if results else _calls(self.opening.replace("$said", json.dumps(said)) + "\n" + said, tools)
        for number, call in enumerate(calls):
            call["id"] = f"call-{len(messages)}-{number}"  # made of what was said: the same words, the same answer
        content = "" if calls else f"{self.prefix}{'; '.join(results) or said}"
        read, written = sum(len(str(each.content or "").split()) for each in messages), len(content.split()) or 1
        return ModelResponse(
            role="assistant",
            content=content,
            tool_calls=calls,
            response_usage=MessageMetrics(input_tokens=read, output_tokens=written, total_tokens=read + written),
        )

    def invoke(self, messages: list[Message], tools: Sequence[Any] | None = None, **_: Any) -> ModelResponse:
        """Answer at once."""
        return self._answer(messages, tools)

    async def ainvoke(self, messages: list[Message], tools: Sequence[Any] | None = None, **_: Any) -> ModelResponse:
        """Answer at once."""
        return self._answer(messages, tools)

    def invoke_stream(
        self, messages: list[Message], tools: Sequence[Any] | None = None, **_: Any
    ) -> Iterator[ModelResponse]:
        """Answer word by word."""
        for part in _in_words(self._answer(messages, tools)):
            time.sleep(self.delay_s)
            yield part

    async def ainvoke_stream(
        self, messages: list[Message], tools: Sequence[Any] | None = None, **_: Any
    ) -> AsyncIterator[ModelResponse]:
        """Answer word by word."""
        for part in _in_words(self._answer(messages, tools)):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            yield part

    def _parse_provider_response(self, response: ModelResponse, **_: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: ModelResponse) -> ModelResponse:
        return response


def _calls(text: str, tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Read the calls of known tools from `text`; a line that is not quite one is text like any other."""
    known = {str(tool.get("function", tool).get("name")) for tool in tools or () if isinstance(tool, dict)}
    calls = []
    for line in text.splitlines():
        verb, _, rest = line.strip().partition(" ")
        name, _, arguments = rest.strip().partition(" ")
        if verb == "call" and name in known and _is_object(arguments or "{}"):
            calls.append({"type": "function", "function": {"name": name, "arguments": arguments or "{}"}})
    return calls


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _in_words(whole: ModelResponse) -> Iterator[ModelResponse]:
    words = str(whole.content).split(" ")
    for number, word in enumerate(words):
        last = number == len(words) - 1
        yield ModelResponse(
            role="assistant",
            content=word if last else word + " ",
            tool_calls=whole.tool_calls if last else [],
            response_usage=whole.response_usage if last else None,
        )
