"""The thin shell around the lifecycle table: feeds it events, carries its actions out, tells others what changed.

The only module that changes an instance's phase. What should happen is decided in `lifecycle`, `restart`, `liveness`
and `reconcile`; how a process is made or ended, in `process`.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from agent_manager.ending import SHIM_KILLED, Ending, Failure
from agent_manager.instance import Instance
from agent_manager.launch import Launcher, recall
from agent_manager.lifecycle import Action, Event, Phase, step
from agent_manager.process.errors import SlotBusy
from agent_manager.process.record import SlotExit
from agent_manager.process.slot import Shim
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.restart import decide
from opmas.wire.errors import OpmasError
from opmas.wire.views import Cause

log = structlog.get_logger(__name__)

# They go into events and errors, a thousand of which may have to fit into one message.
_LAST_LINES, _LAST_LINE_CHARS = 10, 500


class Supervisor:
    """Runs the instances of one node."""

    def __init__(
        self,
        registry: AgentRegistry,
        launcher: Launcher,
        recorder: Recorder,
        tasks: asyncio.TaskGroup,
        on_change: Callable[[AgentRecord], None],
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._recorder = recorder
        self._tasks = tasks
        self._on_change = on_change

    def apply(self, record: AgentRecord, instance: Instance, event: Event, cause: Cause) -> None:
        """Let `event` happen to an instance."""
        before = instance.phase
        instance.phase, action = step(before, event)
        if instance.phase is Phase.RUNNING and before is Phase.STARTING:
            instance.ready_mono = time.monotonic()
        elif instance.phase is Phase.RUNNING and before is Phase.SILENT:
            instance.reason = ""
        self._carry_out(action, record, instance)
        if instance.phase is Phase.STOPPING and instance.preparing is not None:
            instance.preparing.cancel()
        if instance.phase is not before:
            log.info("instance_changed", instance=instance.id, phase=instance.phase.value, by=event.value)
            self._recorder.changed(record, instance, cause)
            record.notify()
            self._on_change(record)

    def adopt(self, record: AgentRecord, instance: Instance, *, was_ready: bool) -> bool:
        """Take over the process that lives in the slot, if one does."""
        shim = instance.slot.adopt()
        if shim is None:
            return False
        instance.manifest = record.manifest_of(instance)
        remembered = recall(instance)
        if remembered is not None:
            instance.epoch, instance.venv = remembered.epoch, remembered.venv
            self._registry.bind_token(instance, remembered.token)
        instance.launched(shim)
        cause = Cause(actor="manager", detail=f"found alive as pid {shim.state.pid}")
        self.apply(record, instance, Event.ADOPTED, cause)
        if was_ready or not _beats(record, instance):
            self.apply(record, instance, Event.READY, cause)
        self._tasks.create_task(self._watch(record, instance, shim), name=f"watch-{instance.id}")
        return True

    def retire(self, record: AgentRecord, instance: Instance) -> None:
        """Forget an instance that scaling down has removed; what it wrote stays in its slot."""
        self._registry.retire(record, instance)
        self._recorder.retired(instance)

    async def renew(self, record: AgentRecord, instance: Instance) -> None:
        """Give a living instance fresh credentials."""
        await self._launcher.renew(record, instance)

    async def clean_up(self) -> None:
        """Remove what launches have made for later ones and nobody uses any more."""
        await self._launcher.clean_up({i.venv for i in self._registry.instances() if i.busy and i.venv is not None})

    def condemn(self, record: AgentRecord, instance: Instance, event: Event, silent_s: float) -> None:
        """Let an instance's silence have its consequence."""
        cause = Cause(actor="manager", detail=f"no heartbeat for {silent_s:g} s")
        if event is Event.HANG and not instance.verdict:
            instance.verdict = "start_timeout" if instance.phase is Phase.STARTING else "hang"
        elif event is Event.HANG:
            return  # it is being ended already
        if event is Event.SILENCE:
            instance.reason = cause.detail
        self.apply(record, instance, event, cause)

    def hurry(self, instance: Instance) -> None:
        """End a process at once that is being stopped."""
        if instance.shim is not None:
            instance.shim.kill()

    def _carry_out(self, action: Action, record: AgentRecord, instance: Instance) -> None:
        if action is Action.LAUNCH:
            _disarm(instance)
            instance.manifest = record.package.manifest if record.package is not None else None
            instance.launching(record.row.epoch, _window_s(instance))
            self._tasks.create_task(self._live(record, instance), name=f"live-{instance.id}")
        elif action is Action.STOP and instance.shim is not None:
            instance.shim.stop()
        elif action is Action.SCHEDULE:
            delay = self._delay(instance)
            loop = asyncio.get_running_loop()
            instance.retry = loop.call_later(delay, self._retry, record, instance)
        elif action is Action.CANCEL:
            _disarm(instance)

    @staticmethod
    def _delay(instance: Instance) -> float:
        if instance.next_retry_at is None:
            return 0.0
        return max((instance.next_retry_at - datetime.now(UTC)).total_seconds(), 0.0)

    def _retry(self, record: AgentRecord, instance: Instance) -> None:
        instance.restarts += 1
        cause = Cause(actor="manager", detail=f"restart policy, attempt {len(instance.crashes.launches) + 1}")
        self.apply(record, instance, Event.RETRY_DUE, cause)

    async def _live(self, record: AgentRecord, instance: Instance) -> None:
        """One process from launch to end."""
        try:
            shim = await self._launch(record, instance)
        except OpmasError as error:
            # Asked for on record, the cause is in the error: nothing to trace.
            log.warning("launch_failed", instance=instance.id, reason=error.message)
            await self._ended(record, instance, None, Failure.of(error))
            return
        instance.launched(shim)
        pid = shim.state.pid
        self.apply(record, instance, Event.LAUNCHED, Cause(actor="manager", detail=f"launched as pid {pid}"))
        if not _beats(record, instance):
            self.apply(record, instance, Event.READY, Cause(actor="manager", detail=f"process {pid} lives"))
        elif instance.heard:
            self.apply(record, instance, Event.READY, Cause(actor=instance.id))
        await self._watch(record, instance, shim)

    async def _launch(self, record: AgentRecord, instance: Instance) -> Shim:
        try:
            return await self._prepared(record, instance)
        except SlotBusy:
            # What an instance left behind, or one that nobody adopted: the slot's lock says it is ours to end.
            with contextlib.suppress(TimeoutError):  # then the slot is busy still, and that is the error
                await asyncio.to_thread(instance.slot.sweep_strays)
            return await self._prepared(record, instance)

    async def _prepared(self, record: AgentRecord, instance: Instance) -> Shim:
        # Before the launch: a quick program proves itself before we hear that it lives.
        self._registry.bind_token(instance, secrets.token_urlsafe(32))
        try:
            return await self._launcher.launch(record, instance)
        except OSError as error:
            raise OpmasError(f"cannot start {instance.id}: {error}", "check the disk and the permissions") from error

    async def _watch(self, record: AgentRecord, instance: Instance, shim: Shim) -> None:
        exit_record = await shim.wait()
        if exit_record is None:
            # The shim was killed and took the instance along; what the instance had started may live on.
            with contextlib.suppress(TimeoutError):
                await asyncio.to_thread(instance.slot.sweep_strays)
        await self._ended(record, instance, exit_record, None if exit_record else SHIM_KILLED)

    async def _ended(
        self, record: AgentRecord, instance: Instance, exit_record: SlotExit | None, failure: Failure | None
    ) -> None:
        # Read before anything is decided: a command that comes meanwhile must find the decision still to be made.
        lines = await asyncio.to_thread(last_lines, instance)
        asked = instance.phase is Phase.STOPPING
        succeeded = self._succeeded(record, instance, exit_record)
        ending = Ending(exit_record, failure, instance.verdict, asked=asked, succeeded=succeeded)
        last_exit = instance.last_exit = ending.last_exit()
        given_up = failure is not None and failure.final
        if asked:
            event = Event.ENDED
        else:
            event = Event.ENDED_FAILED if given_up else self._decide(record, instance, succeeded=succeeded)
        if event in {Event.ENDED, Event.ENDED_WELL}:
            lines, instance.reason = (), ""
        else:
            instance.reason = ending.sentence(instance.reason)
        instance.shim = instance.sample = None
        # When it is to be launched again, the next process is given new ones in their place.
        login = None if event is Event.ENDED_RETRY else self._launcher.withdraw(instance)
        cause = Cause(
            actor=record.cause.actor if asked else "manager",
            command=record.cause.command if asked else "",
            correlation_id=record.cause.correlation_id if asked else "",
            code=ending.code,
            detail=instance.reason or last_exit.reason,
            exit_code=last_exit.exit_code,
            signal=last_exit.signal,
            last_lines=lines,
        )
        self.apply(record, instance, event, cause)
        if login is not None:
            await self._launcher.disconnect(login)

    @staticmethod
    def _succeeded(record: AgentRecord, instance: Instance, exit_record: SlotExit | None) -> bool:
        manifest = record.manifest_of(instance)
        return (
            manifest is not None
            and exit_record is not None
            and not instance.verdict
            and exit_record.error is None
            and exit_record.code in manifest.success_exit_codes
        )

    def _decide(self, record: AgentRecord, instance: Instance, *, succeeded: bool) -> Event:
        manifest = record.manifest_of(instance)
        if record.package is None or record.package.manifest is None or manifest is None:
            instance.reason = record.reason
            return Event.ENDED_FAILED
        decision = decide(
            manifest.restart,
            instance.crashes,
            succeeded=succeeded,
            was_ready=instance.ready_mono is not None,
            healthy_s=instance.healthy_s(),
        )
        instance.reason = decision.reason
        if decision.event is Event.ENDED_RETRY:
            instance.next_retry_at = datetime.now(UTC) + timedelta(seconds=decision.delay_s)
        return decision.event


def last_lines(instance: Instance) -> tuple[str, ...]:
    """The last words of an instance, for an error that explains itself."""
    with contextlib.suppress(OSError):
        lines = (line.text for line in instance.slot.log.tail(_LAST_LINES)[0])
        return tuple(text if len(text) <= _LAST_LINE_CHARS else f"{text[:_LAST_LINE_CHARS]} … [cut]" for text in lines)
    return ()


def _beats(record: AgentRecord, instance: Instance) -> bool:
    manifest = record.manifest_of(instance)
    return manifest is None or not manifest.heartbeat.process


def _window_s(instance: Instance) -> float:
    return instance.manifest.restart.window if instance.manifest is not None else 0.0


def _disarm(instance: Instance) -> None:
    if instance.retry is not None:
        instance.retry.cancel()
        instance.retry = None
    instance.next_retry_at = None
