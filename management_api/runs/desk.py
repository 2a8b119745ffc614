"""Where instances ask for runs, report them and fetch their files: what comes in over NATS, and its answer.

The agent is the subject's, never the body's. APIs share the questions; any of them can answer each. While the database
is away, a claim is answered with nothing and a frame not at all: the instance sends it again.
"""

import asyncio
import re

import structlog
from pydantic import ValidationError

from management_api.fleet import Fleet
from management_api.runs.herald import Herald
from management_api.runs.hub import Hub
from management_api.store.ledger import Ledger
from opmas.bus import AnySubscription, Bus, BusUnavailable, Msg
from opmas.wire import subjects
from opmas.wire.errors import DatabaseUnavailable, InvalidRequest, OpmasError
from opmas.wire.messages import Message, failure
from opmas.wire.runs import Claim, Claimed, FilePieceRequest, Frame, FrameReply

# Frames that are handled together share a transaction: what a thousand runs report at once may wait for one commit.
_AT_A_TIME = 512
# More than one instance has any use for at once, and what it holds it must renew.
_MOST_ROOM = 100
_ORDINAL = re.compile(r"[0-9]{1,6}")

logger = structlog.get_logger(__name__)


class Desk:
    """Answers the instances of all agents."""

    def __init__(self, fleet: Fleet, ledger: Ledger, hub: Hub, herald: Herald, lease_s: float) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._hub = hub
        self._herald = herald
        self._lease_s = lease_s
        self._subscriptions: list[AnySubscription] = []
        self.is_open = asyncio.Event()
        self._newest: dict[tuple[str, str], int] = {}
        """How often the slot of each instance had been started when it last asked for work."""

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Listen, as soon as there is a connection."""
        bus = await self._fleet.bus()
        for subject, handler in (
            (subjects.ALL_CLAIMS, self._claim),
            (subjects.ALL_FRAMES, self._frame),
            (subjects.ALL_FILES, self._file),
        ):
            self._subscriptions.append(
                await bus.subscribe(subject, handler, tasks=tasks, queue=subjects.APIS_QUEUE, concurrency=_AT_A_TIME)
            )
        self._subscriptions.append(await bus.subscribe(subjects.ALL_LIVE, self._hub.hear, tasks=tasks))
        try:
            await bus.flush()
        except BusUnavailable as error:  # it subscribes again with the next connection
            logger.info("not listening for instances yet", reason=error.message)
        self.is_open.set()

    async def close(self, timeout_s: float) -> None:
        """Take no more questions, and answer those that came."""
        try:
            async with asyncio.timeout(timeout_s):
                for subscription in self._subscriptions:
                    await subscription.drain()
        except TimeoutError:
            logger.info("gave up answers to instances", count=sum(one.abandon() for one in self._subscriptions))

    async def _claim(self, msg: Msg) -> None:
        agent_id = subjects.agent_of(msg.subject)
        given = Claimed()
        try:
            claim = Claim.model_validate_json(msg.data)
            if is_instance_of(agent_id, claim.instance_id):
                given = await self._give(agent_id, claim)
            else:
                logger.warning("a claim names no instance of its agent", agent_id=agent_id)
        except ValidationError as error:
            logger.warning("cannot understand a claim", agent_id=agent_id, reason=_why(error))
        except DatabaseUnavailable as error:
            logger.debug("cannot give out runs", agent_id=agent_id, reason=error.message)
        await self._respond(msg, given)

    async def _give(self, agent_id: str, claim: Claim) -> Claimed:
        slot = agent_id, claim.instance_id
        if claim.start_count > self._newest.get(slot, 0):
            # A fleet that starts asks all at once, and mostly for nothing: finding that out disturbs no writer.
            is_open = await self._ledger.has_open(agent_id)
            if is_open:
                await self._settle_older(agent_id, claim)
            self._newest[slot] = claim.start_count
            if not is_open:
                return Claimed()
        room = min(claim.room, _MOST_ROOM)
        if room < 1:
            return Claimed()
        return await self._ledger.claim(
            agent_id, claim.instance_id, claim.start_count, room, self._lease_s, unheard=claim.unheard
        )

    async def _settle_older(self, agent_id: str, claim: Claim) -> None:
        """A newer process of a slot proves the older one dead: its runs need not wait for their leases."""
        for change in await self._ledger.settle_older(agent_id, claim.instance_id, claim.start_count):
            await self._herald.changed(change)

    async def _frame(self, msg: Msg) -> None:
        agent_id, run_id = subjects.agent_of(msg.subject), subjects.run_of(msg.subject)
        try:
            frame = Frame.model_validate_json(msg.data)
        except ValidationError as error:
            logger.warning("cannot understand a frame", agent_id=agent_id, run_id=run_id, reason=_why(error))
            await self._respond(msg, FrameReply(fenced=True, reason=f"cannot understand the frame: {_why(error)}"))
            return
        try:
            recorded = await self._ledger.record(agent_id, run_id, frame, self._lease_s)
        except DatabaseUnavailable as error:
            logger.debug("cannot record a frame", run_id=run_id, reason=error.message)
            return
        if recorded.events:
            self._hub.keep(run_id, recorded.events, recorded.run)
        await self._respond(msg, recorded.reply)
        if recorded.events:
            await self._hub.notify(run_id, recorded.reply.seq, recorded.run)
        if recorded.is_followed:
            await self._herald.nudge(agent_id)

    async def _file(self, msg: Msg) -> None:
        agent_id = subjects.agent_of(msg.subject)
        try:
            asked = FilePieceRequest.model_validate_json(msg.data)
            piece = await self._ledger.piece(agent_id, asked.run_id, asked.instance_id, asked.file_id, asked.offset)
        except ValidationError as error:
            refused: OpmasError = InvalidRequest(f"cannot understand what file is asked for: {_why(error)}")
        except OpmasError as error:
            refused = error
        else:
            await self._respond(msg, piece)
            return
        await self._respond(msg, failure("file", agent_id, refused.body()))

    async def _respond(self, msg: Msg, payload: Message) -> None:
        # Whoever asks names where the answer goes: we may publish where an instance may not.
        if not msg.reply.startswith("_INBOX"):
            logger.warning("no answer to what is no inbox", subject=msg.subject, reply=msg.reply[:80])
            return
        bus: Bus = await self._fleet.bus()
        await bus.respond(msg, payload)


def is_instance_of(agent_id: str, instance_id: str) -> bool:
    """Say whether an agent may have an instance of that name: `echo-0`, or `echo` for a program without slots."""
    name, _, ordinal = instance_id.rpartition("-")
    return instance_id == agent_id or (name == agent_id and _ORDINAL.fullmatch(ordinal) is not None)


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
