"""Answers each request on a subject with as many bytes as told: the bare round trip, by nats-py alone."""

import asyncio
import os
import sys
from typing import Any

import nats


async def main() -> None:
    """Answer until killed; say so when ready."""
    client = await nats.connect(os.environ["NATS_URL"], user_credentials=os.environ["NATS_CREDS"])
    answer = b"x" * int(sys.argv[2])

    async def respond(msg: Any) -> None:
        await client.publish(msg.reply, answer)

    await client.subscribe(sys.argv[1], cb=respond)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
