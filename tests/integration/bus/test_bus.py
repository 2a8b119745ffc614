"""What both buses do alike: the real one on nats-server, and the one in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from opmas.bus import AnyBus, Bus, MemoryBus, Msg, NoResponders, PayloadTooLarge, correlated, correlation_id
from opmas.wire.errors import DeadlineExceeded, InvalidRequest
from opmas.wire.messages import Query, failure


@pytest.fixture(params=["nats", "memory"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[AnyBus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    async with await Bus.connect(request.getfixturevalue("nats_url"), name="test") as real:
        yield real


class Inbox:
    """Collects what comes in."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.news = asyncio.Condition()

    async def take(self, msg: Msg) -> None:
        async with self.news:
            self.messages.append(msg)
            self.news.notify_all()

    async def wait(self, count: int) -> list[Msg]:
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: len(self.messages) >= count)
        return self.messages


async def test_a_message_reaches_everyone_who_listens_with_headers_and_body(bus: AnyBus) -> None:
    one, two = Inbox(), Inbox()
    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.a", one.take, tasks=tasks)
        await bus.subscribe("test.>", two.take, tasks=tasks)
        await bus.flush()

        await bus.publish("test.a", b"hello", {"kind": "greeting"})

        for inbox in (one, two):
            (msg,) = await inbox.wait(1)
            assert (msg.subject, msg.data, msg.headers["kind"]) == ("test.a", b"hello", "greeting")


async def test_a_queue_group_shares_messages_each_handled_once(bus: AnyBus) -> None:
    members = [Inbox() for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        subscriptions = [await bus.subscribe("test.q", each.take, tasks=tasks, queue="group") for each in members]
        await bus.flush()

        for number in range(30):
            await bus.publish("test.q", str(number).encode())
        await bus.flush()
        for subscription in subscriptions:
            await subscription.drain()

    got = Counter(msg.data for each in members for msg in each.messages)
    assert got == Counter(str(number).encode() for number in range(30))


async def test_a_request_is_answered_and_the_answer_carries_no_header_of_the_request(bus: AnyBus) -> None:
    async def answer(msg: Msg) -> None:
        assert await bus.respond(msg, Query(query="echo"))

    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.ask", answer, tasks=tasks)
        await bus.flush()

        reply = await bus.request("test.ask", b"", 5, {"Authorization": "secret"})

    assert Query.model_validate_json(reply.data).query == "echo"
    assert "Authorization" not in reply.headers


async def test_an_error_is_answered_with_the_headers_of_nats_services(bus: AnyBus) -> None:
    async def refuse(msg: Msg) -> None:
        await bus.respond(msg, failure("x", None, InvalidRequest("no: für\nnobody").body()))

    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.refuse", refuse, tasks=tasks)
        await bus.flush()
        reply = await bus.request("test.refuse", b"", 5)

    assert reply.headers["Nats-Service-Error-Code"] == "invalid_request"
    assert reply.headers["Nats-Service-Error"].startswith("no: f?r")


async def test_a_request_that_nobody_hears_fails_at_once(bus: AnyBus) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(NoResponders):
            await bus.request("test.nobody", b"", 60)


async def test_a_request_that_nobody_answers_ends_at_its_deadline(bus: AnyBus) -> None:
    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.silent", Inbox().take, tasks=tasks)
        await bus.flush()
        with pytest.raises(DeadlineExceeded, match=r"test.silent within 0.1 s"):
            await bus.request("test.silent", b"", 0.1)


async def test_a_slow_handler_holds_up_no_other_message(bus: AnyBus) -> None:
    release, seen = asyncio.Event(), Inbox()

    async def handle(msg: Msg) -> None:
        if msg.data == b"slow":
            await release.wait()
        await seen.take(msg)

    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.slow", handle, tasks=tasks)
        await bus.flush()
        await bus.publish("test.slow", b"slow")
        await bus.publish("test.slow", b"fast")

        assert [msg.data for msg in await seen.wait(1)] == [b"fast"]
        release.set()
        assert len(await seen.wait(2)) == 2


async def test_no_more_messages_are_handled_at_once_than_allowed_and_one_at_a_time_is_in_order(bus: AnyBus) -> None:
    running, most, order = 0, 0, []

    async def handle(msg: Msg) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        order.append(int(msg.data))

    async with asyncio.TaskGroup() as tasks:
        subscription = await bus.subscribe("test.one", handle, tasks=tasks, concurrency=1)
        await bus.flush()
        for number in range(20):
            await bus.publish("test.one", str(number).encode())
        await bus.flush()
        await subscription.drain()

    assert most == 1
    assert order == list(range(20))


async def test_an_exception_in_a_handler_is_logged_and_ends_nothing(
    bus: AnyBus, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Inbox()

    async def handle(msg: Msg) -> None:
        if msg.data == b"bad":
            raise ValueError("boom")
        await seen.take(msg)

    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.bad", handle, tasks=tasks)
        await bus.flush()
        await bus.publish("test.bad", b"bad")
        await bus.publish("test.bad", b"good")
        await seen.wait(1)

    assert "cannot handle a message on test.bad" in caplog.text
    assert "boom" in caplog.text


async def test_the_correlation_id_follows_a_request_through_its_handler(bus: AnyBus) -> None:
    async def answer(msg: Msg) -> None:
        await bus.respond(msg, str(correlation_id()).encode())

    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.id", answer, tasks=tasks)
        await bus.flush()
        with correlated("abc-1"):
            reply = await bus.request("test.id", b"", 5)
        unasked = await bus.request("test.id", b"", 5)

    assert (reply.data, reply.headers["x-correlation-id"]) == (b"abc-1", "abc-1")
    assert len(unasked.data) == 32  # made, since there was none


async def test_a_payload_beyond_the_servers_limit_is_refused_and_costs_nothing(bus: AnyBus) -> None:
    seen = Inbox()
    async with asyncio.TaskGroup() as tasks:
        await bus.subscribe("test.big", seen.take, tasks=tasks)
        await bus.flush()
        for size in (1024 * 1024, 8 * 1024 * 1024):
            with pytest.raises(PayloadTooLarge, match="limit"):
                await bus.publish("test.big", b"x" * size, {"header": "y" * 1000})
        await bus.publish("test.big", b"x" * (1024 * 1024 - 8 * 1024), {"header": "y" * 1000})

        (msg,) = await seen.wait(1)
        assert len(msg.data) == 1024 * 1024 - 8 * 1024


async def test_drain_finishes_what_was_taken_and_takes_no_more(bus: AnyBus) -> None:
    started, release, seen = asyncio.Event(), asyncio.Event(), Inbox()

    async def handle(msg: Msg) -> None:
        started.set()
        await release.wait()
        await seen.take(msg)

    async with asyncio.TaskGroup() as tasks:
        subscription = await bus.subscribe("test.drain", handle, tasks=tasks, concurrency=1)
        await bus.flush()
        for _ in range(3):
            await bus.publish("test.drain", b"before")
        await bus.flush()
        draining = tasks.create_task(subscription.drain())
        async with asyncio.timeout(5):
            await started.wait()
            release.set()
            await draining
        await bus.publish("test.drain", b"after")
        await bus.flush()

    assert [msg.data for msg in seen.messages] == [b"before"] * 3


async def test_abandoned_handlers_are_cancelled(bus: AnyBus) -> None:
    started = asyncio.Event()

    async def handle(_: Msg) -> None:
        started.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        subscription = await bus.subscribe("test.stuck", handle, tasks=tasks)
        await bus.flush()
        await bus.publish("test.stuck", b"")
        await started.wait()

        assert subscription.abandon() == 1
    # the group has ended: nothing holds it


async def test_answering_a_message_without_an_inbox_says_so(bus: AnyBus) -> None:
    assert await bus.respond(Msg("test.x", b""), b"answer") is False
