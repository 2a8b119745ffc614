"""The life of an instance as a process: load, connect, start, beat, drain; `main` is the whole of it.

Called in a fork of a template, or by `python -m opmas.agent`. Exit code 0 after a drain, 1 when the agent could not
start or its background work failed.
"""

import asyncio
import logging
import os
import sys

from opmas.agent.config import ConfigSource
from opmas.agent.entrypoint import load_agent
from opmas.agent.environment import Environment
from opmas.agent.handlers import call
from opmas.agent.heartbeat import Heartbeat
from opmas.agent.instance import Instance
from opmas.agent.runs.context import run_id
from opmas.agent.stopping import Stopping
from opmas.bus import Bus, correlation_id
from opmas.wire.errors import InvalidRequest, OpmasError
from opmas.wire.status import AgentStatus

logger = logging.getLogger(__name__)

# nats-server may be restarting while we start; longer than that is for the manager to judge.
_CONNECT_S = 30.0


def main() -> int:
    """Live as the environment says; return the exit code."""
    _log_to_stderr("INFO")
    try:
        environment = Environment.read(os.environ)
        _log_to_stderr(environment.log_level)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        # No asyncio.run: it would wait without end for threads that handlers left behind.
        code = loop.run_until_complete(live(environment))
        _cancel_leftovers(loop)
    except OpmasError as error:
        logger.error("%s. %s", error, error.hint)  # noqa: TRY400 - the message says all; a traceback would hide it
        return 1
    except Exception:  # the edge of the process
        logger.exception("cannot go on")
        return 1
    return code


async def live(environment: Environment) -> int:
    """Live on the loop that runs; return the exit code. Raises what the agent's own code raises at import."""
    stopping = Stopping(environment.stop_grace_s)
    stopping.listen()
    try:
        # Before the connection: the author's imports may block for seconds, and what is wrong here needs no bus.
        instance = Instance(load_agent(environment), environment, ConfigSource(environment.config_file))
        bus = await Bus.connect(
            environment.nats_url,
            name=environment.instance_id,
            creds=environment.nats_creds,
            user=environment.nats_user,
            password=environment.nats_password,
            inbox_prefix=environment.inbox_prefix,
            timeout_s=_CONNECT_S,
            on_reconnect=instance.runs.reconnected,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                return await _work(instance, bus, tasks, stopping)
        finally:
            await bus.close(timeout_s=1.0)
    except asyncio.CancelledError:
        if not stopping.asked:
            raise
        logger.info("stopped before it was ready")
        return 0
    finally:
        stopping.close()


async def _work(instance: Instance, bus: Bus, tasks: asyncio.TaskGroup, stopping: Stopping) -> int:
    try:
        await instance.start(bus, tasks)
    except Exception:  # the edge of the author's start hook
        logger.exception("cannot start %s", instance.environment.agent_id)
        await instance.abandon()
        return 1
    stopping.ready(instance.ending)
    heartbeat = Heartbeat(instance)
    reports = [
        tasks.create_task(heartbeat.beat_forever(), name="heartbeat"),
        tasks.create_task(heartbeat.measure_forever(), name="measure"),
    ]
    await instance.ending.wait()
    await _end(instance, stopping)
    for report in reports:
        report.cancel()
    if instance.failure is not None:
        await heartbeat.beat(AgentStatus.ERROR, f"{type(instance.failure).__name__}: {instance.failure}")
        return 1
    await heartbeat.beat(AgentStatus.STOPPED)
    return 0


async def _end(instance: Instance, stopping: Stopping) -> None:
    """Drain in the first 70 % of the grace, stop in the next 20 %: the rest is for goodbye and the network.

    Runs that have not ended by then end as interrupted.
    """
    logger.info("draining %d in flight", instance.in_flight)
    try:
        async with stopping.within(0.7):
            await instance.drain()
    except TimeoutError:
        logger.warning("not all messages and runs were handled in time")
        await _interrupt(instance, stopping)
    try:
        async with stopping.within(0.9):
            await instance.abandon()
            await call(instance.agent.stop)
    except TimeoutError:
        logger.warning("stop() did not end in time")
    except Exception as error:  # the edge of the author's stop hook
        logger.exception("stop() failed")
        instance.failure = error


async def _interrupt(instance: Instance, stopping: Stopping) -> None:
    try:
        async with stopping.within(0.8):
            await instance.runs.interrupt(patience_s=0.04 * instance.environment.stop_grace_s)
    except TimeoutError:
        logger.warning("not all runs could be reported as interrupted")


def _cancel_leftovers(loop: asyncio.AbstractEventLoop) -> None:
    """End the tasks that the author's code started by itself, as far as they let themselves be ended in a second."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=1.0))
    loop.close()


class _Correlated(logging.Formatter):
    """Puts the ids of the request and the run being handled on their log lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, tracebacks below it."""
        ids = " ".join(each for each in (correlation_id(), run_id() and f"run {run_id()}") if each)
        record.correlation = f" [{ids}]" if ids else ""
        return super().format(record)


def _log_to_stderr(level: str) -> None:
    # No time: whoever collects the lines stamps them.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Correlated("%(levelname)s %(name)s%(correlation)s: %(message)s"))
    try:
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    except ValueError:
        raise InvalidRequest(
            f"there is no log level {level!r}", "OPMAS_LOG_LEVEL is DEBUG, INFO, WARNING or ERROR."
        ) from None
