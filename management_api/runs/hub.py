"""Who waits for a run or follows it here, and how they hear what was committed, wherever that was.

What this API commits it hands over directly; the other APIs are sent a small notice and read the record. A notice may
be lost, so the record is looked at every other second as well, once for all runs that are followed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence

import structlog
from pydantic import ValidationError

from management_api.fleet import Fleet
from management_api.runs.timings import Timings
from management_api.runs.topic import Topic, is_settled
from management_api.store.ledger import Ledger
from management_api.store.rows import RunRow, StoredEvent
from opmas.bus import BusUnavailable, Msg
from opmas.wire import subjects
from opmas.wire.errors import DatabaseUnavailable, OpmasError, RunNotFound
from opmas.wire.messages import Message

# Whoever asks for a run follows it right away, or does not: so long its news is kept for them.
_EXPECTED_S = 2.0
_RETRY_S = 0.5
_PORTION = 500  # runs of one question to the database

# How the record begins an event of that kind; reading the whole is left to whoever shows it.
_END = '{"kind":"end"'

logger = structlog.get_logger(__name__)


class Notice(Message):
    """An API tells the others how far a run is on record, and whether it has ended or waits for a human."""

    seq: int
    settled: bool = False


class Hub:
    """The runs that are followed here; `stop` ends all who wait."""

    def __init__(self, fleet: Fleet, ledger: Ledger, timings: Timings) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._timings = timings
        self._topics: dict[str, Topic] = {}
        self._stopping = False

    # --- what is heard -----------------------------------------------------------------------------------------------

    def expect(self, run_id: str) -> None:
        """Keep the news of a run that is about to be accepted, so that whoever follows it next needs no look."""
        self._topics[run_id] = Topic(is_complete=True, until=time.monotonic() + _EXPECTED_S)

    def keep(self, run_id: str, events: Sequence[StoredEvent], run: RunRow | None = None) -> None:
        """Hand over what was committed here; `run` when its status changed."""
        topic = self._topics.get(run_id)
        if topic is None:
            return
        topic.add(events)
        if run is not None:
            topic.row = run
            topic.seq = max(topic.seq, run.seq)
        topic.announce()

    async def notify(self, run_id: str, seq: int, run: RunRow | None = None) -> None:
        """Tell the other APIs what was committed here."""
        if (bus := self._fleet.connection) is None:
            return
        notice = Notice(seq=seq, settled=run is not None and is_settled(run))
        try:
            await bus.publish(subjects.live(run_id), notice)
        except BusUnavailable as error:
            logger.debug("no notice given", reason=error.message)

    async def hear(self, msg: Msg) -> None:
        """Take another API's notice."""
        topic = self._topics.get(subjects.run_of_notice(msg.subject))
        if topic is None:
            return
        try:
            notice = Notice.model_validate_json(msg.data)
        except ValidationError:
            logger.warning("cannot understand a notice", subject=msg.subject)
            return
        self._learn(topic, notice.seq, settled=notice.settled)

    def _learn(self, topic: Topic, seq: int, *, settled: bool) -> None:
        if settled:
            topic.doubt = max(topic.doubt, seq)
        topic.seq = max(topic.seq, seq)
        topic.announce()

    async def keep_looking(self) -> None:
        """For ever, make good what notices were lost, and forget runs that nobody came to follow."""
        while True:
            await asyncio.sleep(self._timings.look_s)
            at = time.monotonic()
            for run_id, topic in list(self._topics.items()):
                self._drop_unless_wanted(run_id, topic, at)
            followed = [run_id for run_id, topic in self._topics.items() if topic.followers]
            try:
                for start in range(0, len(followed), _PORTION):
                    await self._look(followed[start : start + _PORTION])
            except OpmasError as error:
                logger.debug("cannot look for news of runs", reason=error.message)

    async def _look(self, run_ids: Sequence[str]) -> None:
        for run_id, seq in (await self._ledger.positions(run_ids)).items():
            topic = self._topics.get(run_id)
            if topic is not None and seq > topic.seq:
                self._learn(topic, seq, settled=True)

    # --- who is there ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _followed(self, run: RunRow) -> Iterator[Topic]:
        topic = self._topics.get(run.id)
        if topic is None:
            topic = self._topics[run.id] = Topic(is_complete=False, until=0.0)
        topic.seq = max(topic.seq, run.seq)
        topic.followers += 1
        try:
            yield topic
        finally:
            topic.followers -= 1
            self._drop_unless_wanted(run.id, topic, time.monotonic())

    def _drop_unless_wanted(self, run_id: str, topic: Topic, at: float) -> None:
        if not topic.followers and topic.until <= at and self._topics.get(run_id) is topic:
            del self._topics[run_id]

    async def _complete(self, run_id: str, topic: Topic) -> None:
        """Look once at what was committed before anybody listened here."""
        async with topic.reading:
            if not topic.is_complete:
                await self._look([run_id])
                topic.is_complete = True

    def settled_row(self, run_id: str) -> RunRow | None:
        """Return the row of a run that ended here a moment ago: it will not change any more."""
        topic = self._topics.get(run_id)
        return topic.row if topic is not None and topic.row is not None and topic.row.status.is_terminal else None

    def forget(self, workspace: str, session_id: str) -> None:
        """Keep nothing of a session's runs, which have ended and are deleted."""
        for run_id, topic in list(self._topics.items()):
            if topic.row is not None and (topic.row.workspace, topic.row.session_id) == (workspace, session_id):
                del self._topics[run_id]

    async def settled(self, run: RunRow, timeout_s: float) -> RunRow:
        """Wait until `run` has ended or waits for a human; it is returned as it is when time is up."""
        with self._followed(run) as topic, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not is_settled(run) and not self._stopping:
                    run = await self._newer(run, topic)
        return run

    async def _newer(self, run: RunRow, topic: Topic) -> RunRow:
        seen = topic.version
        if topic.row is not None and topic.row.seq > run.seq:
            return topic.row
        try:
            await self._complete(run.id, topic)
            if topic.doubt > run.seq:
                async with topic.reading:  # what the first has read, the others find
                    if topic.row is None or topic.row.seq < topic.doubt:
                        topic.row = await self._ledger.run(run.id)
                    if topic.row is None:  # it was deleted meanwhile
                        topic.doubt = 0
                    return topic.row or run
        except DatabaseUnavailable as error:
            logger.debug("cannot see whether a run has settled", reason=error.message)
            await asyncio.sleep(_RETRY_S)
            return run
        await topic.changed(seen)
        return run

    async def follow(self, run: RunRow, after: int) -> AsyncGenerator[StoredEvent | None, None]:
        """Yield the events after number `after`, which is on record, until the end; None after a while of silence.

        Raises `DatabaseUnavailable`, and `RunNotFound` if the run is deleted meanwhile.
        """
        position = after
        if run.status.is_terminal and position >= run.seq:
            return
        with self._followed(run) as topic:
            await self._complete(run.id, topic)
            while not self._stopping:
                seen = topic.version
                events = await self._after(run.id, topic, position)
                for event in events:
                    position = event.seq
                    yield event
                    if event.json.startswith(_END):
                        return
                if not events and not self._stopping:
                    try:
                        async with asyncio.timeout(self._timings.keep_alive_s):
                            await topic.changed(seen)
                    except TimeoutError:
                        yield None

    async def _after(self, run_id: str, topic: Topic, position: int) -> Sequence[StoredEvent]:
        events: Sequence[StoredEvent] | None = topic.after(position)
        if events is not None:
            return events
        async with topic.reading:
            events = topic.after(position)
            if events is None:
                events = await self._ledger.events(run_id, position)
                topic.add(events)
                if not events:
                    raise RunNotFound(f"there is no run {run_id} any more: it was deleted")
        return events

    def stop(self) -> None:
        """End all who wait or follow: the API stops."""
        self._stopping = True
        for topic in self._topics.values():
            topic.announce()
