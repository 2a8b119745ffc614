"""One audit row per command: who, what, of which agent, and how it was answered."""

import structlog

from agent_manager.recorder import Recorder
from agent_manager.store import AuditRow, Store
from opmas.bus import Msg, correlation_id
from opmas.wire.errors import DatabaseUnavailable, OpmasError
from opmas.wire.messages import Command, Response

log = structlog.get_logger(__name__)


class Audit:
    """Writes the rows."""

    def __init__(self, store: Store, recorder: Recorder, node: str) -> None:
        self._store = store
        self._recorder = recorder
        self._node = node

    async def answered(self, command: Command | None, msg: Msg, publisher: str, response: Response) -> None:
        """Record a command before its answer leaves; while the database is away, as soon as it is back."""
        row = AuditRow(
            node=self._node,
            publisher=publisher,
            command=response.command,
            agent_id=response.agent_id or "",
            params=command.params if command is not None else {"message": msg.data[:200].decode(errors="replace")},
            outcome=response.status,
            error_code=response.error.code if response.error else None,
            correlation_id=correlation_id(),
        )
        if not _must_last(response):
            self._recorder.answered(row)
            return
        await self._recorder.flush()  # those answered before come before
        try:
            await self._store.add_audit(row)
        except DatabaseUnavailable:
            self._recorder.answered(row)
        except OpmasError as error:
            log.warning("not_audited", row=row, reason=error.message)


def _must_last(response: Response) -> bool:
    """Whether the row must be committed before the answer leaves: when something was changed.

    A refused command, or one that found all as it should be, is written with the next batch, within milliseconds; it
    must not cost its caller a write to disk, nor, when the database is away, another wait for it.
    """
    result = response.result
    return response.error is None and isinstance(result, dict) and result.get("changed") is not False
