"""What an agent's instances wrote, merged by time, with one cursor over all. Reads files: call it in a thread."""

import base64
import binascii
import heapq
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic_core import to_json

from agent_manager.instance import Instance
from agent_manager.process.logfile import LogLine as RawLine
from opmas.wire.errors import InvalidRequest
from opmas.wire.params import LogsParams
from opmas.wire.views import LogLine, LogsView

# An answer travels in one message of at most 1 MB; a line may be a quarter of that alone.
_MAX_BYTES = 600_000
_MAX_LINE = 64_000

# How many lines back a filtered tail looks in each instance's log.
_FILTERED_REACH = 20_000


def read_logs(agent_id: str, instances: Sequence[Instance], params: LogsParams) -> LogsView:
    """Answer the `logs` query. Raises `InvalidRequest` for a cursor or an expression that cannot be read."""
    matches = _matcher(params)
    if params.after is not None:
        return _following(agent_id, instances, _decode(params.after), matches)
    # What a filter leaves out does not count: then the last lines are looked for among many more.
    filtered = params.grep is not None or params.stream is not None
    reach = _FILTERED_REACH if filtered else params.tail
    tails = {instance.id: instance.slot.log.tail(reach) for instance in instances}
    merged = _merged({name: raw for name, (raw, _) in tails.items()}, matches)
    last = merged[-params.tail :] if params.tail else []
    ends = {name: end for name, (_, end) in tails.items()}
    return LogsView(agent_id=agent_id, lines=_last_fitting(last), next=_encode(ends))


def _following(agent_id: str, instances: Sequence[Instance], after: dict[str, str], matches: "_Matcher") -> LogsView:
    """What was written since: no line is left out, those for which there is no room come with the next answer."""
    left = _MAX_BYTES
    found: dict[str, list[RawLine]] = {}

    for instance in instances:

        def fits(raw: RawLine, name: str = instance.id) -> bool:
            nonlocal left
            line = _line(name, raw)
            cost = _cost(line) if matches(line) else 0
            if cost > left:
                left = 0  # nothing of a later instance may overtake
                return False
            left -= cost
            return True

        raw, after[instance.id] = instance.slot.log.read_since(after.get(instance.id, ""), fits)
        found[instance.id] = raw
    return LogsView(agent_id=agent_id, lines=tuple(_merged(found, matches)), next=_encode(after))


def _merged(raw: dict[str, list[RawLine]], matches: "_Matcher") -> list[LogLine]:
    batches = [[line for line in (_line(name, each) for each in lines) if matches(line)] for name, lines in raw.items()]
    return list(heapq.merge(*batches, key=lambda line: line.time))


def _line(instance_id: str, raw: RawLine) -> LogLine:
    return LogLine(
        time=datetime.fromtimestamp(raw.t, UTC),
        stream="stdout" if raw.stream == "out" else "stderr",
        instance=instance_id,
        line=raw.text if len(raw.text) <= _MAX_LINE else raw.text[:_MAX_LINE] + " … [cut]",
    )


def _cost(line: LogLine) -> int:
    """Bytes of the answer that a line takes at most: as JSON, with its time, stream and instance."""
    return len(to_json(line.line)) + 200


def _last_fitting(lines: list[LogLine]) -> tuple[LogLine, ...]:
    """The last lines that fit into one message."""
    left = _MAX_BYTES
    for start in range(len(lines) - 1, -1, -1):
        left -= _cost(lines[start])
        if left < 0:
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
