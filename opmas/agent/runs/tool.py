"""One call of a tool by a run's handler, told when it begins and when it ends."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from pydantic_core import PydanticSerializationError, to_json

from opmas.agent.message import clean
from opmas.wire.runs import EventKind, RunEvent, ToolCall

# Results are shown to people; what is longer is cut.
_RESULT_CHARS = 32_768


class ToolUse:
    """`async with ctx.tool("search", {"q": …}) as call: call.result = …`; plain `with` where there is no coroutine.

    An exception inside is told as the tool's error, and goes on.
    """

    def __init__(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        begin: Callable[[], None],
        put: Callable[[RunEvent], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._call = ToolCall(id=uuid4().hex, name=name, arguments=arguments)
        self._begin, self._put, self._room = begin, put, room
        self.result: Any = None

    def __enter__(self) -> Self:
        self._begin()
        self._put(RunEvent(kind=EventKind.TOOL, tool=self._call))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = clean(f"{type(error).__name__}: {error}")[:_RESULT_CHARS] if error is not None else None
        ended = {"done": True, "result": None if failed else shown(self.result), "error": failed}
        self._put(RunEvent(kind=EventKind.TOOL, tool=self._call.model_copy(update=ended)))

    async def __aenter__(self) -> Self:
        await self._room()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def shown(result: Any) -> str:
    """Return a tool's result as text: what is no text as JSON, and what is no JSON as Python shows it."""
    try:
        text = result if isinstance(result, str) else to_json(result, fallback=repr, inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError, RecursionError):
        text = repr(result)
    text = clean(text)
    return text if len(text) <= _RESULT_CHARS else text[: _RESULT_CHARS - 1] + "…"
