"""Agno's objects as agents, and what a template may preload."""

import asyncio
import subprocess
import sys
from typing import Any

from opmas.agent.desk import Desk
from opmas.bus import Bus
from opmas.wire.runs import Decision, RunStatus

AGENT = """
    from agno.agent import Agent
    from opmas.agent.offline import OfflineModel

    def add(a: int, b: int) -> int:
        "Add."
        return a + b

    agent = Agent(name="calculator", description="adds", model=OfflineModel(), tools=[add])
"""


async def test_an_agno_agent_runs_beats_and_describes_itself(start: Any) -> None:
    agent = await start(AGENT, OPMAS_RUNTIME="agno", OPMAS_ENTRYPOINT="agent.py:agent")
    await agent.beat()

    info = (await agent.query("info")).result

    assert info["kind"] == "agent"
    assert info["description"] == "adds"
    assert info["model"] == {"id": "offline-echo", "provider": "Offline"}
    assert info["tools"] == ["add"]
    agent.process.terminate()
    assert await agent.ended() == 0


ASKS = """
    import os
    from agno.agent import Agent
    from agno.tools import tool
    from opmas.agent.offline import OfflineModel

    @tool(requires_confirmation=True)
    def pid(of: str) -> str:
        "Tell the process."
        return f"{of} {os.getpid()}"

    agent = Agent(model=OfflineModel(), tools=[pid])
"""


async def test_a_confirmed_run_goes_on_in_another_process_when_the_one_that_asked_was_killed(
    start: Any, nats_url: str
) -> None:
    async with asyncio.timeout(60), await Bus.connect(nats_url, name="desk") as bus, asyncio.TaskGroup() as tasks:
        asking = await start(ASKS, OPMAS_RUNTIME="agno", OPMAS_ENTRYPOINT="agent.py:agent", AGENT_ID="asks")
        desk = Desk("asks", bus)
        await desk.open(tasks)
        run_id = await desk.accept('call pid {"of": "process"}')
        asked = await desk.settled(run_id)
        asking.process.kill()
        await asking.ended()

        going_on = await start(ASKS, OPMAS_RUNTIME="agno", OPMAS_ENTRYPOINT="agent.py:agent", AGENT_ID="asks")
        assert asked.confirmation is not None
        await desk.decide(
            run_id,
            Decision(confirmation_id=asked.confirmation.id, confirmed=True, arguments=asked.confirmation.arguments),
        )
        result = await desk.settled(run_id)

    assert (result.status, result.content) == (RunStatus.COMPLETED, f"offline: process {going_on.process.pid}")


async def test_what_agno_cannot_run_is_refused(start: Any) -> None:
    agent = await start("agent = 1", OPMAS_RUNTIME="agno", OPMAS_ENTRYPOINT="agent.py:agent")

    assert await agent.ended() == 1
    assert b"of type int, which Agno cannot run" in agent.errors


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_sdk_brings_no_server_and_no_agno_into_the_process() -> None:
    run(
        "import sys, importlib\n"
        "from opmas.agent import PRELOAD\n"
        "import opmas.agent.testing, opmas.agent.agno\n"
        "[importlib.import_module(m) for m in PRELOAD]\n"
        "bad = {'sqlalchemy', 'fastapi', 'agent_manager', 'management_api', 'agno', 'uvicorn'} & set(sys.modules)\n"
        "assert not bad, bad"
    )


def test_preloading_and_warming_up_leave_one_thread_and_no_descriptor() -> None:
    run(
        "import os, importlib\n"
        "fds = set(os.listdir('/proc/self/fd'))\n"
        "from opmas.agent.agno import PRELOAD, warm_up\n"
        "[importlib.import_module(m) for m in PRELOAD]\n"
        "warm_up()\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "assert set(os.listdir('/proc/self/fd')) == fds"
    )


def test_a_first_run_imports_nothing_after_a_template_has_warmed_up() -> None:
    run(
        "import asyncio, importlib, sys\n"
        "from opmas.agent.agno import PRELOAD, AgnoAgent, warm_up\n"
        "[importlib.import_module(m) for m in PRELOAD]\n"
        "warm_up()\n"
        "from agno.agent import Agent\n"
        "from agno.team import Team\n"
        "from agno.tools import tool\n"
        "from opmas.agent.offline import OfflineModel\n"
        "from opmas.agent.testing import AgentHarness\n"
        "@tool(requires_confirmation=True)\n"
        "def drop(name: str) -> str:\n"
        "    return name\n"
        "member = Agent(id='m', model=OfflineModel(), tools=[drop])\n"
        'lead = OfflineModel(opening=\'call delegate_task_to_member {"member_id": "m", "task": $said}\')\n'
        "async def use(work):\n"
        "    async with AgentHarness(AgnoAgent(work)) as harness:\n"
        "        asked = await harness.run('call drop {\"name\": \"x\"}', files={'a.png': b'x'})\n"
        "        await harness.resume(asked, confirmed=True)\n"
        "known = set(sys.modules)\n"
        "[asyncio.run(use(work)) for work in (member, Team(id='t', model=lead, members=[member]))]\n"
        "assert set(sys.modules) == known, set(sys.modules) - known"
    )
