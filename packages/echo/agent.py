"""Says a message back, word by word: the smallest agent that takes runs, and one to try things out with.

`params` make it slow, long, failing, or asking for a confirmation; see README.md.
"""

import asyncio
import time
from typing import Any

from opmas.agent import Agent, Decision, RunContext, resume, run
from opmas.wire.errors import InvalidRequest

MAX_REPEAT = 10_000


class Echo(Agent):
    """One word, one chunk."""

    @run
    async def answer(self, ctx: RunContext) -> Any:
        """Say the message back as `params` want it."""
        delay = number(ctx, "delay", 0.0)
        words = split(" ".join([ctx.message] * int(number(ctx, "repeat", 1))))
        if ctx.params.get("confirm"):
            return ctx.confirm("Say it back?", {"message": ctx.message}, resume="say", tool_name="say")
        if ctx.params.get("thread"):
            await asyncio.to_thread(self.say_from_thread, ctx, words, delay)
        else:
            await self.say(ctx, words, delay)
        if ctx.params.get("fail"):
            raise RuntimeError(str(ctx.params["fail"]))
        for file in ctx.files:
            await ctx.send(f"\n{file.name}: {len(await file.read())} bytes")
        ctx.usage(model="echo", input_tokens=len(words), output_tokens=len(words))
        return ctx.params.get("data") if isinstance(ctx.params.get("data"), dict) else None

    async def say(self, ctx: RunContext, words: list[str], delay: float) -> None:
        """Send the words, `delay` seconds apart."""
        await ctx.send(str(self.config.get("prefix", "")))
        for word in words:
            await ctx.send(word)
            if delay:
                await asyncio.sleep(delay)

    def say_from_thread(self, ctx: RunContext, words: list[str], delay: float) -> None:
        """Do the same as code would that knows no coroutines."""
        ctx.send_from_thread(str(self.config.get("prefix", "")))
        for word in words:
            ctx.send_from_thread(word)
            time.sleep(delay)

    @resume("say")
    async def decided(self, ctx: RunContext, state: Any, decision: Decision) -> str:
        """Say the message that was approved, perhaps another than was asked for."""
        if not decision.confirmed:
            return f"Silent, as {decision.decided_by or 'somebody'} wants it."
        await self.say(ctx, split(str(decision.arguments.get("message", ctx.message))), 0.0)
        return ctx.content


def split(message: str) -> list[str]:
    """Cut after each space, so that the words joined are the message."""
    words = message.split(" ")
    return [*(word + " " for word in words[:-1]), words[-1]]


def number(ctx: RunContext, name: str, default: float) -> float:
    """Read a number from `params`. Raises `InvalidRequest`."""
    value = ctx.params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_REPEAT:
        raise InvalidRequest(f"cannot echo: {name} is {value!r}", f"It is a number from 0 to {MAX_REPEAT}.")
    return float(value)
