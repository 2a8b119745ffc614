"""The manager's side of runs: what an instance is told of them, and what the API is told of it."""

import json
import signal
from pathlib import Path

import psutil

from tests.integration.manager.fleet import SLEEPER, WORKER, Fleet, Operator, pids

RUNNER = """
    import json
    import os
    import pathlib

    from opmas.agent import Agent, run


    class Runner(Agent):
        async def start(self):
            path = pathlib.Path(os.environ["OPMAS_DATA_DIR"]) / "environ"
            path.with_suffix(".new").write_text(json.dumps(dict(os.environ)))
            path.with_suffix(".new").rename(path)

        @run
        async def answer(self, ctx):
            return ctx.message


    Worker = Runner
"""
KEY, SECRET = "OPMAS_TEST_KEY", "hush-hush"


def configure(fleet: Fleet) -> None:
    config = fleet.home.parent / "config"
    config.mkdir()
    fast = {"model": "openai:gpt-5-mini", "key": KEY, "base_url": "http://127.0.0.1:1/v1"}
    (config / "agent_manager.yaml").write_text(json.dumps({"models": {"fast": fast, "local": {"model": "offline"}}}))
    fleet.manager.environment[KEY] = SECRET


def environ(fleet: Fleet, agent_id: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((fleet.home / "data" / "agents" / agent_id / "environ").read_text())
    return found


async def test_a_key_is_with_the_agents_that_list_its_model_and_in_no_template(own: Fleet) -> None:
    configure(own)
    own.package("keyed", RUNNER, models=["fast", "local"], max_runs=3)
    own.package("plain", RUNNER)
    own.manager.start()
    assert own.manager.process is not None
    async with own.operator() as operator:
        for agent_id in ("keyed", "plain"):
            await operator.running(agent_id)
        keyed, plain = environ(own, "keyed"), environ(own, "plain")

        assert (keyed[KEY], keyed["OPMAS_MAX_RUNS"]) == (SECRET, "3")
        assert json.loads(keyed["OPMAS_MODELS"])["fast"]["key"] == KEY
        assert (plain["OPMAS_MAX_RUNS"], KEY in plain, "OPMAS_MODELS" in plain) == ("8", False, False)
        below = psutil.Process(own.manager.process.pid).children(recursive=True)
        assert below
        assert not any(SECRET in (Path("/proc") / str(p.pid) / "environ").read_text() for p in below)
    assert SECRET not in own.manager.log.read_text()


async def test_an_agent_that_lacked_a_model_is_started_by_a_manager_that_has_it(own: Fleet) -> None:
    own.package("keyed", RUNNER, models=["fast"])
    own.manager.start()
    async with own.operator() as operator:
        await operator.until("keyed", lambda view: "does not define it" in view["reason"])
    own.manager.signal(signal.SIGTERM)
    own.manager.wait()

    configure(own)
    own.manager.start()

    async with own.operator() as operator:
        await operator.running("keyed")
    assert environ(own, "keyed")[KEY] == SECRET


async def test_whether_an_instance_takes_runs_is_known_from_its_heartbeat_also_by_the_next_manager(own: Fleet) -> None:
    own.package("runner", RUNNER, max_runs=2, session_runs="reject", heartbeat={"interval": 0.2, "timeout": 30})
    own.package("worker", WORKER)
    own.package("program", **SLEEPER | {"autostart": True})
    own.manager.start()

    async def taking(operator: Operator, agent_id: str) -> object:
        return (await operator.running(agent_id))["instances"][0].get("takes_runs")

    async with own.operator() as operator:
        assert [await taking(operator, name) for name in ("runner", "worker", "program")] == [True, False, False]
        view = await operator.get("runner")
        assert (view["runs"]["max_runs"], view["runs"]["session_runs"]) == (2, "reject")

    own.manager.signal(signal.SIGKILL)
    own.manager.wait()
    own.manager.start()
    async with own.operator() as operator:
        again = await operator.until("runner", lambda view: view["instances"][0].get("takes_runs"))
        assert pids(again) == pids(view)
