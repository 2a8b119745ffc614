import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import StreamConfig

from agent_manager.nats import EmbeddedSource, Publisher, Role
from opmas.wire import subjects

Join = Callable[..., Awaitable]
FORGED = {subjects.CLIENT_INFO_HEADER: json.dumps({"name_tag": "root", "user": "U", "issuer_key": "A"})}


@pytest.fixture
async def commands(join: Join) -> Subscription:
    manager = await join("node-1", Role.MANAGER)
    heard = await manager.client.subscribe(subjects.IDENTIFIED_COMMAND, subjects.MANAGERS_QUEUE)
    await manager.settle()
    return heard


async def test_a_command_carries_its_publisher(source: EmbeddedSource, commands: Subscription, join: Join) -> None:
    for name, role in (("cli", Role.OPERATOR), ("api", Role.API)):
        guest = await join(name, role)
        await guest.client.publish(subjects.COMMAND, b"{}")
        message = await commands.next_msg(5)

        publisher = source.publisher_of(message.subject, message.headers)

        assert publisher == Publisher(role, name, guest.login.user)
        assert str(publisher) == f"{role}:{name}"


async def test_the_api_says_for_whom_it_speaks_and_is_the_only_one_believed(
    source: EmbeddedSource, commands: Subscription, join: Join
) -> None:
    for name, role, said in (("api", Role.API, "api:ann@acme"), ("cli", Role.OPERATOR, "operator:cli")):
        guest = await join(name, role)
        await guest.client.publish(subjects.COMMAND, b"{}", headers={subjects.CALLER_HEADER: "ann@acme"})
        message = await commands.next_msg(5)

        assert str(source.publisher_of(message.subject, message.headers)) == said


@pytest.mark.parametrize("forged", [FORGED, {key.lower(): value for key, value in FORGED.items()}])
async def test_a_publisher_cannot_name_itself(
    source: EmbeddedSource, commands: Subscription, join: Join, forged: dict[str, str]
) -> None:
    operator = await join("cli", Role.OPERATOR)

    await operator.client.publish(subjects.COMMAND, b"{}", headers={**forged, subjects.CORRELATION_HEADER: "7"})
    message = await commands.next_msg(5)

    assert str(source.publisher_of(message.subject, message.headers)) == "operator:cli"
    assert message.headers[subjects.CORRELATION_HEADER] == "7"


async def test_headers_written_by_hand_do_not_help_a_forger(
    source: EmbeddedSource, commands: Subscription, join: Join
) -> None:
    operator = await join("cli", Role.OPERATOR)
    info = FORGED[subjects.CLIENT_INFO_HEADER].encode()
    name = subjects.CLIENT_INFO_HEADER.encode()
    for lines in (
        b"%b: %b\r\n%b: %b\r\n" % (name, info, name, info),
        b"%b : %b\r\n" % (name, info),
        b" %b: %b\r\n" % (name, info),
        b"x: y\r\n %b: %b\r\n" % (name, info),
        b"%b: %b\r\n\r\n%b: %b\r\n" % (name, info, name, info),
    ):
        header = b"NATS/1.0\r\n" + lines + b"\r\n"
        size = len(header)
        await operator.client._send_command(
            b"HPUB %b %d %d\r\n%b{}\r\n" % (subjects.COMMAND.encode(), size, size + 2, header)
        )
        await operator.settle()
        message = await commands.next_msg(5)

        assert str(source.publisher_of(message.subject, message.headers)) == "operator:cli"


async def test_what_a_stream_delivers_has_no_publisher(
    source: EmbeddedSource, commands: Subscription, join: Join
) -> None:
    """nats-server delivers stored bytes to any reply subject: a forged header must not come back to life there."""
    streamer = await join("a", Role.STREAMER, publish=("events.a",))
    js = streamer.client.jetstream(timeout=5)
    await js.add_stream(StreamConfig(name="a", subjects=["events.a"], allow_direct=True))
    await js.publish("events.a", b"{}", headers=FORGED)

    for target in (subjects.COMMAND, subjects.IDENTIFIED_COMMAND):
        await streamer.client.publish("$JS.API.DIRECT.GET.a.events.a", b"", reply=target)
        message = await commands.next_msg(5)

        assert source.publisher_of(message.subject, message.headers) is None


async def test_managers_share_commands_and_each_asker_hears_one_answer(join: Join) -> None:
    taken: list[str] = []

    async def serve(name: str) -> None:
        manager = await join(name, Role.MANAGER)

        async def answer(msg: Msg) -> None:
            taken.append(name)
            await manager.client.publish(msg.reply, name.encode())

        await manager.client.subscribe(subjects.IDENTIFIED_QUERY, subjects.MANAGERS_QUEUE, cb=answer)
        await manager.settle()

    await asyncio.gather(serve("node-1"), serve("node-2"))
    operator = await join("cli", Role.OPERATOR)
    answers = [await operator.client.request(subjects.QUERY, b"{}", timeout=5) for _ in range(40)]

    assert [answer.data.decode() for answer in answers] == taken
    assert set(taken) == {"node-1", "node-2"}


def test_a_plain_subject_has_no_publisher_whatever_its_headers_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    from agent_manager.nats.identity import publisher_of  # noqa: PLC0415

    assert publisher_of(subjects.COMMAND, FORGED, lambda _: Role.OPERATOR) is None
    assert publisher_of(subjects.IDENTIFIED_COMMAND, {subjects.CLIENT_INFO_HEADER: "{"}, lambda _: Role.API) is None
