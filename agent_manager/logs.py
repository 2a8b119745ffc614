"""What an agent's instances wrote, merged by time, with one cursor over all. Reads files: call it in a thread."""

import base64
import binascii
import heapq
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from agent_manager.instance import Instance
from agent_manager.process.logfile import LogLine as RawLine
from opmas.wire.errors import InvalidRequest
from opmas.wire.params import LogsParams
from opmas.wire.views import LogLine, LogsView

# An answer travels in one message of at most 1 MB; a line may be a quarter of that alone.
_MAX_BYTES = 600_000
_MAX_LINE = 64_000


def read_logs(agent_id: str, instances: Sequence[Instance], params: LogsParams) -> LogsView:
    """Answer the `logs` query. Raises `InvalidRequest` for a cursor or an expression that cannot be read."""
    matches = _matcher(params)
    cursors = _decode(params.after) if params.after else {}
    batches: list[list[LogLine]] = []
    ends: dict[str, str] = {}
    for instance in instances:
        if params.after is None:
            raw, end = instance.slot.log.tail(params.tail)
        else:
            raw, end = instance.slot.log.read_since(cursors.get(instance.id, ""))
        ends[instance.id] = end
        batches.append([line for line in (_line(instance.id, each) for each in raw) if matches(line)])
    merged = list(heapq.merge(*batches, key=lambda line: line.time))
    if params.after is None:
        merged = merged[-params.tail :] if params.tail else []
    return LogsView(agent_id=agent_id, lines=_fitting(merged), next=_encode(ends))


def _line(instance_id: str, raw: RawLine) -> LogLine:
    return LogLine(
        time=datetime.fromtimestamp(raw.t, UTC),
        stream="stdout" if raw.stream == "out" else "stderr",
        instance=instance_id,
        line=raw.text if len(raw.text) <= _MAX_LINE else raw.text[:_MAX_LINE] + " … [cut]",
    )


def _fitting(lines: list[LogLine]) -> tuple[LogLine, ...]:
    """The last lines that fit into one message."""
    size = 0
    for start in range(len(lines) - 1, -1, -1):
        size += 6 * len(lines[start].line) if not lines[start].line.isascii() else len(lines[start].line) + 120
        if size > _MAX_BYTES:
            return tuple(lines[start + 1 :])
    return tuple(lines)


class _Matcher:
    def __init__(self, params: LogsParams, pattern: re.Pattern[str] | None) -> None:
        self._params, self._pattern = params, pattern

    def __call__(self, line: LogLine) -> bool:
        params = self._params
        if params.stream is not None and line.stream != params.stream:
            return False
        if params.since is not None and line.time < params.since:
            return False
        return self._pattern is None or self._pattern.search(line.line) is not None


def _matcher(params: LogsParams) -> _Matcher:
    # A literal text, not an expression: a stranger's regular expression can hold the manager for minutes.
    pattern = re.compile(re.escape(params.grep), re.IGNORECASE) if params.grep else None
    if params.since is not None and params.since.tzinfo is None:
        params = params.model_copy(update={"since": params.since.replace(tzinfo=UTC)})
    return _Matcher(params, pattern)


def _encode(cursors: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(cursors).encode()).decode()


def _decode(text: str) -> dict[str, str]:
    try:
        cursors = json.loads(base64.urlsafe_b64decode(text.encode()))
        return {str(key): str(value) for key, value in cursors.items()}
    except (binascii.Error, ValueError, AttributeError):
        raise InvalidRequest(
            f"cannot continue after {text[:40]!r}", "pass the `next` of an earlier answer, or leave it out"
        ) from None
