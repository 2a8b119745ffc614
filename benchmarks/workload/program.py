"""The same Agno agent as a program for supervisors that exec: nats-py, a heartbeat, nothing else.

Leaner than what OPMAS runs (no commands, metrics, drain), so that what it costs the others is the least it could.
"""

import asyncio
import json
import os
import sys

import nats
from agent import agent


async def main() -> None:
    """Beat every five seconds until killed."""
    client = await nats.connect(os.environ["NATS_URL"], max_reconnect_attempts=-1)
    beat = json.dumps({"agent_id": sys.argv[1], "pid": os.getpid(), "status": "running"}).encode()
    assert agent.model  # noqa: S101 - the agent is there to be run
    while True:
        await client.publish("agent.status", beat)
        await asyncio.sleep(5)


asyncio.run(main())
