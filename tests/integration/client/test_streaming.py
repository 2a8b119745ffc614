"""Streams that are cut and taken up again, polling, and the face without await."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from opmas.client import BlockingClient, GatewayTimeout, NotFound, OpmasClient, RunFailed, ServiceUnavailable
from tests.integration.client.rehearsed import RUN, Rehearsed, answer, events, hang_up, refuse, silence
from tests.node import until

WAITING = {
    "requiresConfirmation": True,
    "confirmationId": "k1",
    "confirmationDetails": {"toolName": "pay", "toolArgs": {}, "message": "Pay?", "expiresAt": "2026-01-01T00:00:00Z"},
}


async def test_a_stream_goes_on_after_the_last_event_that_arrived_however_it_was_lost(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    server.acts = [events(1, 2), hang_up, refuse(503), events(), events(3, 4), events(5, last="end")]

    told = [event async for event in client.stream("echo", "r1")]

    assert "".join(event.content or "" for event in told) == "1 2 3 4 5 "
    assert [event.id for event in told] == ["1", "2", "3", "4", "5", "6"]
    assert [heard.headers.get("last-event-id") for heard in server.heard] == [None, "2", "2", "2", "2", "4"]
    assert told[-1].is_last
    assert told[-1].run is not None
    assert told[-1].run.content == "hi"


async def test_a_stream_under_way_outlasts_an_open_circuit(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    client._breaker._clock = lambda: sum(naps)
    server.acts = [events(1), *[hang_up] * 8, events(2, last="end")]

    assert "".join([event.content or "" async for event in client.stream("echo", "r1")]) == "1 2 "

    assert max(naps) > 20  # until the circuit is half open


async def test_a_stream_may_begin_where_another_process_left_it(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [answer(b"", 204)]

    assert [event async for event in client.stream("echo", "r1", last_event_id="9")] == []
    assert server.heard[0].headers["last-event-id"] == "9"


async def test_a_stream_that_is_refused_or_finds_nobody_says_so(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    server.acts = [refuse(404, "run_not_found"), hang_up]

    with pytest.raises(NotFound):
        await anext(client.stream("echo", "r1"))
    with pytest.raises(ServiceUnavailable):
        await anext(client.stream("echo", "r1"))
    assert len(server.heard) == 5


async def test_a_stream_may_be_given_a_deadline(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [silence]

    with pytest.raises(GatewayTimeout):
        await anext(client.stream("echo", "r1", within_s=0.05))


async def test_polling_asks_every_second_until_the_run_is_completed_or_waits_for_a_human(
    server: Rehearsed, client: OpmasClient, naps: list[float]
) -> None:
    running = RUN | {"status": "running"}
    server.acts = [answer(running), answer(running | {"data": {"x": 1}}), answer(running | {"data": WAITING}), answer()]

    waiting = await client.poll_until_complete("echo", "r1")
    completed = await client.poll_until_complete("echo", "r1")

    assert (waiting.data or {})["confirmationId"] == "k1"
    assert completed.content == "hi"
    assert naps == [1.0, 1.0]


async def test_polling_raises_what_a_run_failed_of(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [answer(RUN | {"status": "failed", "error": "too hot", "data": {"reason": "cancelled"}})]

    with pytest.raises(RunFailed, match="too hot") as caught:
        await client.poll_until_complete("echo", "r1")

    assert (caught.value.reason, caught.value.run.run_id) == ("cancelled", "r1")


async def test_polling_has_an_end(server: Rehearsed, client: OpmasClient) -> None:
    server.acts = [answer(RUN | {"status": "running"})]

    with pytest.raises(GatewayTimeout, match="has not ended within"):
        await client.poll_until_complete("echo", "r1", within_s=0.05)


async def test_the_face_without_await_serves_threads_and_code_inside_a_running_loop(server: Rehearsed) -> None:
    server.acts = [answer(), answer(), events(1, 2, last="end"), events(1, 2), answer()]
    runs = []

    def work(client: BlockingClient) -> None:
        runs.append(client.get_run("echo", "r1"))

    def script() -> str:
        with BlockingClient(server.url, "secret-token") as client:
            threads = [threading.Thread(target=work, args=(client,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            text = "".join(event.content or "" for event in client.stream("echo", "r1"))
            left = client.stream("echo", "r1")
            next(left)
            left.close()
            assert client.get_run("echo", "r1").content == "hi"
            assert "secret" not in repr(client)
        with pytest.raises(RuntimeError, match="closed"):
            client.get_run("echo", "r1")
        return text

    async with asyncio.timeout(20):
        assert await asyncio.to_thread(script) == "1 2 "
    assert len(runs) == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "opmas-client"]


async def test_closing_the_face_without_await_ends_the_calls_of_other_threads(server: Rehearsed) -> None:
    server.acts = [silence]
    ended: list[str] = []

    def work(client: BlockingClient) -> None:
        try:
            client.get_run("echo", "r1")
        except CancelledError:
            ended.append("cancelled")

    def script() -> None:
        with BlockingClient(server.url) as client:
            thread = threading.Thread(target=work, args=(client,))
            thread.start()
            until(lambda: server.heard, "the request")
            left = client.stream("echo", "r1")
        thread.join(20)
        del left

    async with asyncio.timeout(20):
        await asyncio.to_thread(script)
    assert ended == ["cancelled"]
