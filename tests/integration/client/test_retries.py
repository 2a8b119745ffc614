"""What is tried again, how often, after which pauses; what each failure is called; what the log says of it."""

import asyncio
import json
import logging

import pytest

from opmas.client import (
    CircuitOpen,
    CircuitState,
    GatewayTimeout,
    InternalServerError,
    NotFound,
    OpmasClient,
    OpmasError,
    ServiceUnavailable,
    Unauthorized,
)
from opmas.wire.errors import ConfirmationDecided, InvalidRequest, QueueFull, RunNotFound
from tests.integration.client.rehearsed import Act, Rehearsed, answer, hang_up, refuse, silence


async def test_a_call_is_tried_four_times_after_one_two_and_four_seconds_as_one_and_the_same(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    server.acts = [refuse(500), hang_up, refuse(502), answer()]

    run = await client.invoke("echo", "hi", user_id="u", workspace_id="w", token="another")

    assert (run.content, naps) == ("hi", [1.0, 2.0, 4.0])
    assert len({heard.headers["idempotency-key"] for heard in server.heard}) == 1
    assert len({heard.headers["x-correlation-id"] for heard in server.heard}) == 1
    last = server.heard[-1]
    assert (last.headers["authorization"], last.headers["x-workspace-id"]) == ("Bearer another", "w")
    assert json.loads(last.body) == {"message": "hi", "userId": "u"}


async def test_every_invocation_has_a_key_and_an_id_of_its_own(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [answer()]
    for _ in range(2):
        await client.invoke("echo", "hi")
    await client.invoke("echo", "hi", idempotency_key="mine", correlation_id="ours", wait=6.5)

    assert len({heard.headers["idempotency-key"] for heard in server.heard}) == 3
    assert len({heard.headers["x-correlation-id"] for heard in server.heard}) == 3
    last = server.heard[-1].headers
    assert (last["idempotency-key"], last["x-correlation-id"], last["prefer"]) == ("mine", "ours", "wait=7")


@pytest.mark.parametrize(
    ("act", "kind", "tries"),
    [
        (refuse(500, "internal_error"), InternalServerError, 4),
        (refuse(502), InternalServerError, 4),
        (refuse(503, "manager_unavailable"), ServiceUnavailable, 4),
        (refuse(503), ServiceUnavailable, 4),
        (refuse(504), GatewayTimeout, 4),
        (refuse(429, "queue_full"), QueueFull, 4),
        (hang_up, ServiceUnavailable, 4),
        (refuse(400, "invalid_request"), InvalidRequest, 1),
        (refuse(401, "unauthenticated"), Unauthorized, 1),
        (refuse(403, "permission_denied"), Unauthorized, 1),
        (refuse(404, "run_not_found"), RunNotFound, 1),
        (refuse(404), NotFound, 1),
        (refuse(409, "confirmation_decided"), ConfirmationDecided, 1),
        (refuse(418, "teapot"), OpmasError, 1),
    ],
)
async def test_a_failure_has_its_kind_and_only_what_may_pass_is_tried_again(
    server: Rehearsed, client: OpmasClient, naps: list[float], act: Act, kind: type[OpmasError], tries: int
) -> None:
    server.acts = [act]

    with pytest.raises(kind) as caught:
        await client.get_run("echo", "r1", correlation_id="c-1")

    assert len(server.heard) == tries
    assert len(naps) == tries - 1
    assert caught.value.correlation_id == "c-1"
    assert "secret-token" not in repr(caught.value)


async def test_an_answer_keeps_its_status_code_and_hint(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [refuse(401, "unauthenticated")]

    with pytest.raises(Unauthorized) as caught:
        await client.cancel("echo", "r1")

    assert (caught.value.status, caught.value.code, caught.value.hint) == (401, "unauthenticated", "wait")


async def test_silence_is_a_timeout(server: Rehearsed) -> None:
    server.acts = [silence]
    async with OpmasClient(server.url, timeout_s=0.05, retries=0) as client:
        with pytest.raises(GatewayTimeout):
            await client.get_run("echo", "r1")
    assert "authorization" not in server.heard[0].headers


@pytest.mark.parametrize(("asked", "pause"), [("9", 9.0), ("0", 1.0), ("86400", 60.0), ("tomorrow", 1.0)])
async def test_who_says_when_to_come_back_is_heard_within_reason(
    server: Rehearsed, client: OpmasClient, naps: list[float], asked: str, pause: float
) -> None:
    server.acts = [refuse(429, "rate_limited", retry_after=asked), answer()]

    await client.get_run("echo", "r1")

    assert naps == [pause]


async def test_five_failures_open_the_circuit_and_the_next_call_is_not_sent(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    server.acts = [refuse(500)]

    for _ in range(2):
        with pytest.raises(InternalServerError):
            await client.get_run("echo", "r1")
    assert len(server.heard) == 5  # four of the first call, and one of the second: it ends when the circuit opens
    with pytest.raises(CircuitOpen) as caught:
        await client.invoke("echo", "hi")

    assert len(server.heard) == 5
    assert isinstance(caught.value, ServiceUnavailable)
    assert 0 < (caught.value.retry_after_s or 0) <= 30
    assert (await client.check_health()).circuit_state is CircuitState.OPEN


async def test_the_log_tells_a_calls_beginning_retries_and_end_by_its_id_and_no_token(
    server: Rehearsed, client: OpmasClient, naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    server.acts = [refuse(500), answer(), refuse(404, "run_not_found")]
    with caplog.at_level(logging.INFO, "opmas.client"):
        await client.get_run("echo", "r1", correlation_id="c-1")
        with pytest.raises(NotFound):
            await client.get_run("echo", "r2", correlation_id="c-2")

    lines = [record.getMessage() for record in caplog.records if record.name == "opmas.client"]
    assert [line.split(": ")[1].split(" in ")[0] for line in lines] == [
        "begun [c-1]",
        "retry 1/3",
        "succeeded",
        "begun [c-2]",
        "failed",
    ]
    assert all("[c-1]" in line for line in lines[:3])
    assert all("[c-2]" in line for line in lines[3:])
    assert "secret-token" not in caplog.text


async def test_health_is_told_whatever_it_is(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [answer({"status": "ok"}), answer({"status": "degraded"}), refuse(500), answer(b"?"), hang_up]

    told = [await client.check_health() for _ in range(5)]

    assert [health.healthy for health in told] == [True, False, False, False, False]
    assert [health.status for health in told] == ["ok", "degraded", *["unreachable"] * 3]
    assert all(health.response_time_ms >= 0 for health in told)


async def test_a_cancelled_call_is_over_at_once(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [silence]
    call = asyncio.create_task(client.get_run("echo", "r1"))
    async with asyncio.timeout(5):
        while not server.heard:  # noqa: ASYNC110 - the server has no other way to tell
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
