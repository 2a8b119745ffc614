"""The runs of one instance: claimed when there is room and word of work, held side by side, drained at the end.

Nothing here polls: work is asked for at the start, after a lost connection, when the API says that there is some, and
when a run has ended while more was known to wait. An instance that stays full does not listen, so that word of work
reaches a replica that has room.
"""

import asyncio
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

from pydantic import ValidationError

from opmas.agent.environment import Environment
from opmas.agent.handlers import Handler
from opmas.agent.runs.held import Functions, HeldRun, Site
from opmas.agent.runs.verdict import CANCELLED, LOST, STOPPING
from opmas.bus import AnyBus, AnySubscription, BusUnavailable, Msg, NoResponders
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded
from opmas.wire.runs import Assignment, Claim, Claimed

logger = logging.getLogger(__name__)

# Longer than any claim should take: an answer that comes later is not heard.
_CLAIM_S = 5.0
_AGAIN_S = 1.0
# Full for so long (seconds) it will be for longer: runs that end faster make room before another replica is needed.
_FULL_S = 0.2
# After an outage a fleet shall not ask in step.
_JITTER_S = 1.0


class Worker:
    """What an instance does with runs."""

    def __init__(self, environment: Environment, handlers: list[Handler]) -> None:
        self._environment = environment
        self._functions = Functions.of(handlers)
        self._site: Site | None = None
        self._held: dict[HeldRun, asyncio.Task[None]] = {}
        self._claiming = False
        self._unheard = False
        self._more = False
        self._ending = False
        self._listening: AnySubscription | None = None
        self._full: asyncio.TimerHandle | None = None
        self.handled = 0

    @property
    def takes_runs(self) -> bool:
        """Whether the agent has a handler for runs."""
        return self._functions.run is not None

    @property
    def in_flight(self) -> int:
        """How many runs it holds."""
        return len(self._held)

    @property
    def is_stuck(self) -> bool:
        """Whether all its places are taken by handlers that do not end, so that it can take no more runs."""
        return sum(held.is_stuck for held in self._held) >= self._environment.max_runs

    async def listen(self, bus: AnyBus, tasks: asyncio.TaskGroup) -> None:
        """Listen for word of work; runs are held in `tasks`."""
        environment = self._environment
        threads = ThreadPoolExecutor(environment.max_runs, thread_name_prefix="run")
        self._site = Site(environment.agent_id, environment.instance_id, bus, tasks, threads, self._functions)
        await self._listen(self._site)

    def start(self) -> None:
        """Ask for work."""
        self._claim_soon()

    async def _listen(self, site: Site) -> None:
        if self._listening is None and not self._ending:
            subject, queue = subjects.run(site.agent_id), site.agent_id
            self._listening = await site.bus.subscribe(subject, self._hear, tasks=site.tasks, queue=queue)

    async def _hear(self, _msg: Msg) -> None:
        self._claim_soon()

    async def _leave(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.drain()

    def reconnected(self) -> None:
        """Ask for work after an outage: what was said meanwhile was not heard."""
        if self._site is not None:
            delay = random.uniform(0, _JITTER_S)  # noqa: S311 - jitter, no secret
            asyncio.get_running_loop().call_later(delay, self._claim_soon)

    def cancel(self, run_id: str) -> bool:
        """Stop a run; False when it is not held here."""
        found = [held for held in self._held if held.run_id == run_id]
        for held in found:
            held.stop(CANCELLED)
        return bool(found)

    # --- claims ------------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        return 0 if self._ending else self._environment.max_runs - len(self._held)

    def _claim_soon(self) -> None:
        self._more = True
        if self._site is not None and not self._claiming and self._room > 0:
            self._claiming = True
            # In a context of its own: runs do not belong to the request whose nudge was heard.
            self._site.tasks.create_task(self._claim_all(self._site), name="claim", context=Context())

    async def _claim_all(self, site: Site) -> None:
        """Claim until there is no more work, or no more room."""
        try:
            await self._listen(site)  # first: what is accepted after the claim is heard of
            while self._more and (room := self._room) > 0:
                self._more = False
                assignments = await self._claim(site, room)
                self._more = self._more or len(assignments) >= room
                for assignment in assignments:
                    self._take(site, assignment)
        except Exception:  # the edge of a claim: the next word of work, or end of a run, makes another
            logger.exception("cannot claim runs")
        finally:
            self._claiming = False

    async def _claim(self, site: Site, room: int) -> tuple[Assignment, ...]:
        """Ask once. When nobody is there to hear it, the API tells again that there is work once it is back."""
        claim = Claim(
            instance_id=site.instance_id,
            start_count=self._environment.start_count,
            room=room,
            unheard=self._unheard,
        )
        try:
            answer = await site.bus.request(subjects.claim(site.agent_id), claim, _CLAIM_S)
            self._unheard = False
            claimed = Claimed.model_validate_json(answer.data)
        except (NoResponders, BusUnavailable) as error:
            logger.debug("cannot claim runs: %s", error)
        except DeadlineExceeded as error:
            # Its answer may have given us runs, which nobody else is told of: they are asked for once more.
            logger.debug("cannot hear what was claimed: %s", error)
            self._unheard = True
            asyncio.get_running_loop().call_later(_AGAIN_S, self._claim_soon)
        except ValidationError:
            logger.exception("cannot understand the answer to a claim")
        else:
            self._more = self._more or claimed.more
            return claimed.assignments
        return ()

    def _take(self, site: Site, assignment: Assignment) -> None:
        if self._ending:  # not begun, so it goes to another instance
            return
        for older in [held for held in self._held if held.run_id == assignment.run_id]:
            older.stop(LOST)
        held = HeldRun(assignment, site)
        self.handled += 1
        hold = self._hold(held)
        self._held[held] = site.tasks.create_task(hold, name=f"hold {assignment.run_id}", context=Context())
        if self._room <= 0 and self._full is None:
            self._full = asyncio.get_running_loop().call_later(_FULL_S, self._still_full, site)

    def _still_full(self, site: Site) -> None:
        self._full = None
        if self._room <= 0 and not self._ending:
            site.tasks.create_task(self._leave(), name="full", context=Context())

    async def _hold(self, held: HeldRun) -> None:
        try:
            await held.live()
        except asyncio.CancelledError:  # the instance is being given up
            self._ending = True
            raise
        except Exception:  # the edge of a run: what is wrong with one must not end the others
            logger.exception("cannot go on with the run %s", held.run_id)
        finally:
            del self._held[held]
            if self._more or self._listening is None:
                self._claim_soon()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Claim no more, and return when all runs have ended; the caller sets the deadline."""
        self._ending = True
        if self._full is not None:
            self._full.cancel()
        await self._leave()
        while self._held:
            await asyncio.wait(self._held.values())

    async def interrupt(self, patience_s: float) -> None:
        """Stop what is left, and return when it has ended; the caller sets the deadline.

        The end of a handler that has not heeded its cancellation after `patience_s` is told without it.
        """
        for held in self._held:
            held.stop(STOPPING, patience_s)
        await self.drain()

    def abandon(self) -> int:
        """Give up what is left; say how many runs that were."""
        self._ending = True
        left = list(self._held.values())
        for task in left:
            task.cancel()
        if self._site is not None:
            self._site.threads.shutdown(wait=False, cancel_futures=True)
        return len(left)
