"""The supervisor with its own launcher, templates and store, where the order of things can be chosen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_manager.instance import Instance
from agent_manager.launch import Launcher
from agent_manager.lifecycle import Event, Phase
from agent_manager.nats import SharedSource
from agent_manager.package import load_package
from agent_manager.process.slot import Shim
from agent_manager.reconcile import Reconciler, needs
from agent_manager.recorder import Recorder
from agent_manager.registry import AgentRecord, AgentRegistry
from agent_manager.store import AgentRow, AuditRow, Store
from agent_manager.supervisor import Supervisor
from agent_manager.templates import Templates
from agent_manager.venvs import Venvs
from opmas.wire.messages import StatusReport
from opmas.wire.status import Desired
from opmas.wire.views import Cause
from tests.integration.manager.fleet import until
from tests.node import write_package

SOMEBODY = Cause(actor="somebody")


class WatchedLauncher(Launcher):
    """A launcher that lets a test look, or act, at the last moment before a launch is reported."""

    on_launched: Callable[[Instance], Awaitable[None]] | None = None

    async def launch(self, record: AgentRecord, instance: Instance) -> Shim:
        shim = await super().launch(record, instance)
        if self.on_launched is not None:
            await self.on_launched(instance)
        return shim


@dataclass
class Yard:
    """A supervisor and all it needs."""

    packages: Path
    registry: AgentRegistry
    launcher: WatchedLauncher
    recorder: Recorder
    supervisor: Supervisor
    reconciler: Reconciler

    def agent(self, name: str, **fields: Any) -> tuple[AgentRecord, Instance]:
        folder = write_package(self.packages, name, command=["sleep", "1000"], **fields)
        row = AgentRow(id=name, package=name, name=name, desired=Desired.RUNNING)
        record = self.registry.add(row, load_package(folder))
        return record, self.registry.instance(record, 0)

    async def reaches(self, instance: Instance, phase: Phase) -> None:
        async def there() -> bool:
            return instance.phase is phase

        await until(there, f"{instance.id} to be {phase}")


@asynccontextmanager
async def yard(root: Path) -> AsyncIterator[Yard]:
    url = f"sqlite:///{root / 'home' / 'manager.db'}"
    (root / "home" / "run").mkdir(parents=True)
    registry, templates = AgentRegistry("here", root / "home" / "run"), Templates(root / "home" / "run")
    try:
        async with Store.open(url) as store, asyncio.TaskGroup() as tasks:
            recorder = Recorder(store, "here")
            venvs = Venvs(root / "home" / "venvs", tasks)
            launcher = WatchedLauncher(root / "home", SharedSource("nats://127.0.0.1:1"), templates, venvs)
            supervisor = Supervisor(registry, launcher, recorder, tasks, lambda _record: None)
            reconciler = Reconciler(registry, supervisor, lambda _record: None)
            yield Yard(root / "packages", registry, launcher, recorder, supervisor, reconciler)
            reconciler.draining = True
            async with asyncio.timeout(60):
                for instance in registry.instances():
                    supervisor.hurry(instance)
                while any(instance.alive for instance in registry.instances()):
                    reconciler.reconcile_all()
                    await asyncio.sleep(0.01)
    finally:
        await templates.close()


async def test_a_first_word_that_overtakes_the_launch_makes_the_instance_ready(tmp_path: Path) -> None:
    async with yard(tmp_path) as one:
        record, instance = one.agent("quick")

        async def speak(launched: Instance) -> None:
            assert launched.phase is Phase.LAUNCHING
            assert one.registry.token_owner((launched.slot.path / "token").read_text()) is launched
            launched.beat(StatusReport())

        one.launcher.on_launched = speak
        one.supervisor.apply(record, instance, Event.START, SOMEBODY)

        await one.reaches(instance, Phase.RUNNING)


async def test_a_stop_during_the_launch_is_carried_out_when_there_is_a_process(tmp_path: Path) -> None:
    async with yard(tmp_path) as one:
        record, instance = one.agent("unlucky")

        async def stop(launched: Instance) -> None:
            one.supervisor.apply(record, launched, Event.STOP, SOMEBODY)

        one.launcher.on_launched = stop
        one.supervisor.apply(record, instance, Event.START, SOMEBODY)
        await one.reaches(instance, Phase.IDLE)

    assert instance.last_exit is not None
    assert instance.last_exit.reason == "stopped"
    assert instance.slot.lock_holders() == []


async def test_a_stop_while_it_is_dying_wins_over_the_restart(tmp_path: Path) -> None:
    async with yard(tmp_path) as one:
        record, instance = one.agent("dying", heartbeat="process", restart="always")
        one.supervisor.apply(record, instance, Event.START, SOMEBODY)
        await one.reaches(instance, Phase.RUNNING)
        assert instance.shim is not None

        instance.shim.kill()
        await instance.shim.wait()  # the supervisor has not decided yet
        one.supervisor.apply(record, instance, Event.STOP, SOMEBODY)
        await one.reaches(instance, Phase.IDLE)

    assert instance.next_retry_at is None
    assert instance.reason == ""


async def test_one_that_lives_in_the_slot_unadopted_gives_way_to_the_next_launch(tmp_path: Path) -> None:
    async with yard(tmp_path) as one:
        record, instance = one.agent("first", heartbeat="process", restart="never")
        one.supervisor.apply(record, instance, Event.START, SOMEBODY)
        await one.reaches(instance, Phase.RUNNING)
        unknown = instance.pid

        # As for a manager that knows nothing of it: the slot is ours, and a second copy in it there cannot be.
        other = AgentRecord(record.row, record.package)
        copy = other.instances[0] = Instance("first", 0, "here", instance.slot)
        one.supervisor.apply(other, copy, Event.START, SOMEBODY)
        await one.reaches(copy, Phase.RUNNING)

        await one.reaches(instance, Phase.FAILED)
        assert copy.pid != unknown
        assert copy.pid in copy.slot.lock_holders()
        assert unknown not in copy.slot.lock_holders()
        one.supervisor.apply(other, copy, Event.STOP, SOMEBODY)
        await one.reaches(copy, Phase.IDLE)


async def test_what_happens_before_there_is_a_database_is_recorded_when_there_is_one(tmp_path: Path) -> None:
    async with yard(tmp_path) as one, Store.open(f"sqlite:///{tmp_path / 'empty.db'}") as store:
        recorder = Recorder(store, "here")
        record, instance = one.agent("a")
        for number in range(700):  # more than one batch
            recorder.happened("a", "instance", Cause(detail=str(number)))
        recorder.changed(record, instance, SOMEBODY)
        recorder.answered(
            AuditRow(node="here", publisher="operator:cli", command="stop", agent_id="a", outcome="error")
        )
        assert not await recorder.flush()
        assert not recorder.database_ok

        await store.migrate()
        await store.save_agent(record.row)
        while recorder.pending:
            assert await recorder.flush()

        assert recorder.database_ok
        events = await store.events(limit=1000)
        assert [event.cause.get("detail") for event in events[:-1]] == [str(number) for number in range(700)]
        assert [row.command for row in await store.audit()] == ["stop"]
        assert [row.agent_id for row in await store.instances()] == ["a"]


async def test_who_flushes_waits_for_what_another_flush_has_in_hand(tmp_path: Path) -> None:
    async with Store.open(f"sqlite:///{tmp_path / 'manager.db'}") as store, asyncio.TaskGroup() as tasks:
        await store.migrate()
        recorder = Recorder(store, "here")
        recorder.happened("a", "instance", SOMEBODY)
        tasks.create_task(recorder.flush())
        await asyncio.sleep(0)  # it has taken the event and waits for the database

        await recorder.flush()

        assert len(await store.events()) == 1


async def test_instances_that_scaling_removed_leave_the_database(tmp_path: Path) -> None:
    async with yard(tmp_path) as one, Store.open(f"sqlite:///{tmp_path / 'manager.db'}") as store:
        await store.migrate()
        recorder = Recorder(store, "here")
        record, _ = one.agent("a")
        await store.save_agent(record.row)
        for ordinal in range(4):
            recorder.touch(one.registry.instance(record, ordinal))
        await recorder.flush()

        for ordinal in (3, 2):
            recorder.retired(record.instances[ordinal])
        await recorder.flush()
        assert [row.ordinal for row in await store.instances()] == [0, 1]

        recorder.retired(record.instances[1])
        recorder.touch(record.instances[1])  # scaled up again before anything was written
        await recorder.flush()
        assert [row.ordinal for row in await store.instances()] == [0, 1]


async def test_a_web_of_dependencies_is_walked_once(tmp_path: Path) -> None:
    async with yard(tmp_path) as one:
        names = [f"n{level}-{side}" for level in range(20) for side in "ab"]
        for name in names:
            level = int(name[1:-2])
            one.agent(name, depends_on=[f"n{level - 1}-a", f"n{level - 1}-b"] if level else [])

        order = [record.id for record in needs(one.registry.get("n19-a"), one.registry)]

    assert len(order) == len(set(order)) == 39
    assert order.index("n0-a") < order.index("n1-b") < order.index("n19-a")
