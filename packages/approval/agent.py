"""Decides purchase requests by the rules in its config; a human decides about the large ones.

The answer is structured: `{decision: approved | rejected | needs_review, confidence, reasons}`. What was decided is
also published on `events.approval`, for whoever acts on it.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from opmas.agent import Agent, Decision, RunContext, resume, run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is decided; None while a human has to."""

    decision: Literal["approved", "rejected", "needs_review"] | None
    confidence: float
    reasons: tuple[str, ...]


def judge(request: dict[str, Any], rules: dict[str, Any]) -> Outcome:
    """Apply the rules: what is incomplete is reviewed, what is forbidden rejected, then the amount decides."""
    doubts = doubts_about(request, rules)
    if doubts:
        return Outcome("needs_review", 0.3, doubts)
    if request.get("vendor") in rules["blocked_vendors"]:
        return Outcome("rejected", 1.0, (f"the vendor {request['vendor']} is blocked",))
    amount = request["amount"]
    told = f"{amount:g} {request.get('currency', rules['currencies'][0])}"
    if amount > rules["confirm_above"]:
        return Outcome(None, 1.0, (f"{told} is above {rules['confirm_above']:g}",))
    if amount <= rules["approve_up_to"]:
        return Outcome("approved", 1.0, (f"{told} is within {rules['approve_up_to']:g}",))
    return Outcome("needs_review", 0.6, (f"{told} is more than is approved without a review",))


def doubts_about(request: dict[str, Any], rules: dict[str, Any]) -> tuple[str, ...]:
    """Say why the rules cannot be applied to the request, if they cannot."""
    missing = tuple(f"{name} is missing" for name in ("prNumber", "amount") if request.get(name) in (None, ""))
    if missing:
        return missing
    amount, currency = request["amount"], request.get("currency", rules["currencies"][0])
    if isinstance(amount, bool) or not isinstance(amount, int | float) or amount <= 0:
        return (f"the amount {amount!r} is not a positive number",)
    return () if currency in rules["currencies"] else (f"there is no rule for {currency}",)


class Approval(Agent):
    """One run is one request: its facts are the run's `params`."""

    @run
    async def decide(self, ctx: RunContext) -> Any:
        """Judge the request, or ask a human."""
        async with ctx.tool("judge", ctx.params) as call:
            outcome = judge(ctx.params, self.config)
            call.result = asdict(outcome)
        if outcome.decision is not None:
            return await self._conclude(ctx, ctx.params, outcome)
        await ctx.send(f"{'; '.join(outcome.reasons)}: somebody has to decide.\n")
        return ctx.confirm(
            f"Approve {ctx.params['prNumber']} over {ctx.params['amount']:g}?",
            ctx.params,
            state={"reasons": outcome.reasons},
            resume="decided",
            tool_name="approve",
            expires_in=float(self.config["decide_within_s"]),  # type: ignore[arg-type]  # a number, says the schema
        )

    @resume("decided")
    async def decided(self, ctx: RunContext, state: Any, decision: Decision) -> Any:
        """Carry out what the human said; what was edited may not break the rules that humans are bound to."""
        request = ctx.params | decision.arguments
        judged = judge(request, self.config)
        who = decision.decided_by or "a human"
        if not decision.confirmed:
            outcome = Outcome("rejected", 1.0, (*state["reasons"], f"{who} declined", *filter(None, [decision.note])))
        elif judged.decision == "rejected":
            outcome = judged
        else:
            outcome = Outcome("approved", 1.0, (*state["reasons"], f"{who} approved", *filter(None, [decision.note])))
        return await self._conclude(ctx, request, outcome)

    async def _conclude(self, ctx: RunContext, request: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
        self.metrics[str(outcome.decision)] += 1
        facts = {"prNumber": request.get("prNumber"), "amount": request.get("amount"), **asdict(outcome)}
        await self.publish("events.approval", {"event": "approval.decided", "run_id": ctx.run_id, **facts})
        await ctx.send(f"{str(outcome.decision).replace('_', ' ').capitalize()}: {'; '.join(outcome.reasons)}.")
        return facts
