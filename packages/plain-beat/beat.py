"""An agent made with nats-py alone: the plain contract, in one file to copy from.

It uses nothing of OPMAS, on purpose. The manager gives a program its NATS address, its credentials and a token file in
the environment; the program says "I live" on `agent.status` and its figures on `agent.metrics`. The token proves that
the message is this agent's; it may be renewed while the program runs, so it is read again for every message.
"""

import asyncio
import json
import os
import resource
import signal
import time
from pathlib import Path

import nats.errors
from nats.aio.client import Client

AGENT_ID = os.environ["AGENT_ID"]
INSTANCE_ID = os.environ.get("OPMAS_INSTANCE_ID", AGENT_ID)
TOKEN_FILE = os.environ.get("OPMAS_STATUS_TOKEN_FILE")
INTERVAL_S = float(os.environ.get("BEAT_INTERVAL", "5"))


async def say(client: Client, subject: str, **fields: object) -> None:
    """Publish one message of the plain contract."""
    message = {"agent_id": AGENT_ID, "instance_id": INSTANCE_ID, "timestamp": time.strftime("%FT%TZ", time.gmtime())}
    if TOKEN_FILE:
        message["token"] = (await asyncio.to_thread(Path(TOKEN_FILE).read_text)).strip()
    await client.publish(subject, json.dumps(message | fields).encode())


async def beat(client: Client, stopping: asyncio.Event) -> None:
    """Say "I live" at once and then every interval, until told to stop or the connection is closed for good."""
    beats = 0
    while not stopping.is_set() and not client.is_closed:
        beats += 1
        await say(client, "agent.status", status="running", metadata={"beats": beats})
        usage = resource.getrusage(resource.RUSAGE_SELF)
        await say(client, "agent.metrics", metrics={"beats": beats, "cpu_s": usage.ru_utime + usage.ru_stime})
        try:
            async with asyncio.timeout(INTERVAL_S):
                await stopping.wait()
        except TimeoutError:
            continue
    if client.is_connected:
        await say(client, "agent.status", status="stopped", metadata={"beats": beats})


async def connect() -> Client:
    """Connect once; what breaks later the client mends by itself, for ever."""
    client = Client()
    async with asyncio.timeout(5):  # with attempts unlimited, the first connect would wait without end
        await client.connect(
            os.environ["NATS_URL"],
            name=INSTANCE_ID,
            user_credentials=os.environ.get("NATS_CREDS"),
            inbox_prefix=os.environ.get("NATS_INBOX_PREFIX", "_INBOX"),  # ours alone: others cannot read our answers
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=complain,
        )
    return client


async def complain(error: Exception) -> None:
    """Tell the log what NATS refused; the client goes on by itself."""
    print(f"nats: {error!r}", flush=True)  # noqa: T201 - standard output is this program's log


async def main() -> None:
    """Connect, beat, and leave on SIGTERM."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    while not stopping.is_set():  # credentials that expired close the client for good: begin anew with fresh ones
        try:
            client = await connect()
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await complain(error)
            await asyncio.sleep(1)
            continue
        try:
            await beat(client, stopping)
        finally:
            await client.close()  # sends what is still to be sent


if __name__ == "__main__":
    asyncio.run(main())
