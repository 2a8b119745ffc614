"""The clock as a process of its own: what it prints and how it ends."""

import asyncio
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

HERE = Path(__file__).parent


@asynccontextmanager
async def clock(**environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        "./clock.sh", cwd=HERE, env={"PATH": os.environ["PATH"], **environment}, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(10):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(10):  # a child of the script that held its output open would show here
            await process.communicate()


async def test_the_clock_prints_the_time_again_and_again() -> None:
    async with clock(INTERVAL="1", FORMAT="%H:%M:%S") as process:
        assert process.stdout
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        process.terminate()
        await process.wait()

    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\n", line) for line in lines)


async def test_sigterm_ends_the_clock_at_once_with_code_0() -> None:
    async with clock(INTERVAL="3600") as process:
        assert process.stdout
        await process.stdout.readline()
        process.terminate()

        assert await process.wait() == 0
        assert (await process.stdout.read()).decode() == "clock: stopped\n"


async def test_a_wrong_interval_is_refused_in_words() -> None:
    async with clock(INTERVAL="soon") as process:
        _, said = await process.communicate()

    assert process.returncode == 2
    assert "INTERVAL must be a whole number" in said.decode()
