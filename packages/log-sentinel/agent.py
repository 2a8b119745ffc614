"""Finds addresses that guess SSH passwords in the lines on `logs.>`, and reports each once on `findings.security`.

With `durable: true` the lines pass through a JetStream stream: what comes while the agent is down is found in it, and
what it has already reported too, so that a kill loses and repeats nothing. Without it, the agent knows what it saw
since it started.
"""

import asyncio
import json
import time
from typing import Any

from finding import SUBJECT, finding_of
from ledger import Ledger, Suspect
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from record import Record, time_of

from opmas.agent import Agent, Message, on, query

_LOOK_S = 5.0  # look into the stream this often even if nothing tells us to


class Sentinel(Agent):
    """Counts failed passwords per address; `threshold` of them within `window_s` make a finding."""

    async def start(self) -> None:
        """Read what is on record, then follow it."""
        self.ledger = Ledger(*self._limits())
        self.news = asyncio.Event()
        self.record: Record | None = None
        self.trouble = ""
        if self.config["durable"]:
            await self._open_record()

    async def on_config_changed(self, old: dict[str, Any]) -> None:
        """Judge by the new threshold and window from now on; `durable` waits for a restart."""
        self.ledger.threshold, self.ledger.window_s = self._limits()

    @on("logs.>")
    async def line(self, message: Message) -> None:
        """Take a line in; when there is a record, this only says that there is something new in it."""
        self.metrics["lines"] += 1
        if self.record is not None:
            self.news.set()
            return
        self._see(message.text, time.time(), message.subject)
        for suspect in self.ledger.due(time.time()):
            await self._report(suspect)

    @query("suspects")
    async def suspects(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Answer with the addresses that failed most, reported or not."""
        return [
            {"address": each.address, "failed_passwords": len(each.attempts), "reported": each.reported_at is not None}
            for each in self.ledger.worst(int(params.get("count", 10)))
        ]

    async def health_check(self) -> bool | dict[str, Any]:
        """Unwell while the record cannot be read."""
        return {"healthy": False, "message": self.trouble} if self.trouble else True

    def _limits(self) -> tuple[int, float]:
        config: dict[str, Any] = self.config
        return int(config["threshold"]), float(config["window_s"])

    def _see(self, line: str, at: float, subject: str) -> None:
        if self.ledger.saw(line, at, subject):
            self.metrics["failed_passwords"] += 1
            self.metrics["addresses"] = len(self.ledger)

    async def _report(self, suspect: Suspect) -> None:
        finding = finding_of(suspect, self.id, self.type, self.ledger.threshold)
        if self.record is None:
            await self.publish(SUBJECT, finding)
        else:
            await self.record.publish(json.dumps(finding).encode(), finding["finding_id"])
        self.ledger.reported(suspect.address, time.time())
        self.metrics["findings"] += 1
        self.log.warning("%s: %s", finding["severity"], finding["description"])

    # --- the record ------------------------------------------------------------------------------------------------

    async def _open_record(self) -> None:
        self.record = Record(self.jetstream(), self.id)
        await self.record.open(self.ledger.window_s)
        self.spawn(self._follow(self.record), "follow the record")

    async def _follow(self, record: Record) -> None:
        """Read on for ever; report nobody before all that was there at the start is read."""
        while True:
            try:
                batch = await self._read_on(record)
                self.trouble = ""
            except (NatsError, OSError) as error:
                self.trouble = f"cannot use the stream {self.id}: {error!r}"
                self.log.warning(self.trouble)
                await asyncio.sleep(1)
                await record.renew()
                continue
            if not batch:
                await self._wait_for_news()

    async def _read_on(self, record: Record) -> list[Msg]:
        batch = await record.read()
        for msg in batch:
            self._take(msg)
        if record.caught_up:
            for suspect in self.ledger.due(time.time()):
                await self._report(suspect)
        return batch

    def _take(self, msg: Msg) -> None:
        if msg.subject != SUBJECT:
            self._see(msg.data.decode(errors="replace"), time_of(msg), msg.subject)
            return
        try:
            finding = json.loads(msg.data)
            if finding["agent_id"] == self.id:
                self.ledger.reported(finding["details"]["address"], time_of(msg))
        except (ValueError, KeyError, TypeError, RecursionError):
            self.log.info("left aside a finding of someone else that cannot be read")

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self.news.wait()
        except TimeoutError:
            return
        self.news.clear()
