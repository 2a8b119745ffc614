from collections.abc import Awaitable, Callable
from pathlib import Path

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig, StreamConfig

from agent_manager.nats import EmbeddedServer, Login, Role, keys
from agent_manager.nats.claims import encode
from agent_manager.nats.keypair import USER, KeyPair
from agent_manager.nats.minting import creds_text
from opmas.wire import subjects

Join = Callable[..., Awaitable]
Visit = Callable[[Login], Awaitable]


async def test_an_agent_can_publish_nothing_but_its_own(join: Join) -> None:
    agent = await join("a")
    foreign = (
        "agent.b.status", "agent.a.command", "agent.b.command", "agent.manager.command", "agent.manager.query",
        "opmas.identified.command", "run.1.live", "findings.x", "$JS.API.STREAM.CREATE.a", "$SYS.REQ.SERVER.PING", "x",
    )  # fmt: skip

    for subject in foreign:
        await agent.client.publish(subject, b"")

    assert [error.rsplit('"', 2)[1] for error in await agent.refused()] == [subject.lower() for subject in foreign]


async def test_an_agent_can_subscribe_to_nothing_but_its_own(join: Join) -> None:
    agent = await join("a")
    foreign = (
        "agent.b.command", "agent.*.command", "agent.>", ">", "*.>", "_INBOX.>", "_INBOX.*.*", "_INBOX.agent.b-0.>",
        "_INBOX.agent.a-1.>", "_INBOX.manager.>", "agent.manager.response", "opmas.identified.>", "run.>", "logs.>",
        "$SYS.>",
    )  # fmt: skip

    for subject in foreign:
        await agent.client.subscribe(subject)

    assert len(await agent.refused()) == len(foreign)


async def test_an_agent_has_its_own_subjects_and_those_of_its_manifest_only(join: Join) -> None:
    agent = await join("a", publish=("findings.security", "Events.a.>"), subscribe=("logs.>", "events.*.new"))
    own = ("response", "status", "metrics", "log", "claim", "event.run-1", "file")

    for subject in (*(f"agent.a.{word}" for word in own), "agent.status", "findings.security", "Events.a.b.c"):
        await agent.client.publish(subject, b"")
    for subject in ("agent.a.command", "agent.a.query", "agent.a.run", "logs.sshd", "events.x.new", "$SRV.PING"):
        await agent.client.subscribe(subject)
    assert not await agent.refused()

    await agent.client.publish("findings.other", b"")
    await agent.client.publish("events.a", b"")
    await agent.client.subscribe("events.x.old")
    assert len(await agent.refused()) == 3


async def test_an_agent_takes_no_part_in_the_runs_of_another(join: Join) -> None:
    agent = await join("a")
    reports = (subjects.claim("b"), subjects.frame("b", "run-1"), subjects.file("b"), subjects.run("b"))
    heard = (*reports, subjects.claim("a"), subjects.frame("a", "*"), subjects.ALL_CLAIMS, subjects.ALL_FRAMES)

    for subject in (*reports, subjects.run("a"), subjects.live("run-1")):
        await agent.client.publish(subject, b"")
    assert len(await agent.refused()) == 6

    for subject in (*heard, subjects.run("*"), subjects.ALL_LIVE):
        await agent.client.subscribe(subject)
    assert len(await agent.refused()) == 10


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
async def test_what_users_ask_of_agents_passes_by_operators_and_viewers(join: Join, role: Role) -> None:
    guest = await join("cli", role, inbox_prefix="_INBOX")
    carried = (
        subjects.run("a"), subjects.claim("a"), subjects.frame("a", "run-1"), subjects.file("a"), subjects.live("run-1")
    )  # fmt: skip
    everything = (subjects.ALL_CLAIMS, subjects.ALL_FRAMES, subjects.ALL_FILES, subjects.ALL_LIVE, "agent.>", "run.>")

    for subject in carried:
        await guest.client.publish(subject, b"")
    for subject in (*carried, *everything):
        await guest.client.subscribe(subject)

    assert len(await guest.refused()) == 2 * len(carried) + len(everything)


async def test_the_api_hears_of_runs_nudges_instances_and_tells_its_peers(join: Join) -> None:
    api = await join("api", Role.API)

    for subject in (subjects.ALL_CLAIMS, subjects.ALL_FRAMES, subjects.ALL_FILES, subjects.ALL_LIVE):
        await api.client.subscribe(subject, subjects.APIS_QUEUE)
    for subject in (subjects.run("a"), subjects.command("a"), subjects.live("run-1")):
        await api.client.publish(subject, b"")

    assert not await api.refused()


@pytest.mark.parametrize(("name", "role", "inbox"), [("node-1", Role.MANAGER, None), ("cli", Role.OPERATOR, "_INBOX")])
async def test_managers_and_operators_ask_an_agent_and_hear_its_answer(
    join: Join, name: str, role: Role, inbox: str | None
) -> None:
    asker, agent = await join(name, role, **({"inbox_prefix": inbox} if inbox else {})), await join("a")

    async def answer(msg: Msg) -> None:
        await agent.client.publish(msg.reply, b"fine")

    await agent.client.subscribe("agent.a.query", cb=answer)
    await agent.settle()

    assert (await asker.client.request("agent.a.query", b"", timeout=5)).data == b"fine"
    assert not await agent.refused()


async def test_a_reply_subject_gives_no_right_to_publish_there(join: Join) -> None:
    """With `allow_responses` an agent would send itself a message and so publish wherever it likes."""
    agent = await join("a", publish=("events.x",), subscribe=("events.x",))
    heard = await agent.client.subscribe("events.x")

    for target in ("agent.manager.command", "opmas.identified.command", "agent.b.command"):
        await agent.client.publish("events.x", b"", reply=target)
        await agent.client.publish((await heard.next_msg(5)).reply, b"evil")

    assert len(await agent.refused()) == 3


async def test_the_stock_tool_commands_managers_without_reading_their_replies(join: Join) -> None:
    manager, operator = await join("node-1", Role.MANAGER), await join("cli", Role.OPERATOR, inbox_prefix="_INBOX")

    async def answer(msg: Msg) -> None:
        await manager.client.publish(msg.reply, b"done")

    await manager.client.subscribe("opmas.identified.command", "managers", cb=answer)
    await manager.settle()
    assert (await operator.client.request("agent.manager.command", b"", timeout=5)).data == b"done"

    for subject in ("_INBOX.*.*.*", "_INBOX.*.*.>", "_INBOX.manager.node-1.>", "agent.>", "opmas.identified.>", ">"):
        await operator.client.subscribe(subject)
    assert len(await operator.refused()) == 6


async def test_a_wildcard_over_all_inboxes_hears_operators_replies_only(join: Join) -> None:
    operator, agent = await join("cli", Role.OPERATOR, inbox_prefix="_INBOX"), await join("a")
    heard = await operator.client.subscribe("_INBOX.>")  # nats-server lets this through as one of `_INBOX.*`
    await operator.settle()

    for subject in ("_INBOX.manager.node-1.x.y", "_INBOX.agent.b-0.x", "_INBOX.api.api.x.y", "_INBOX.x.y"):
        await agent.client.publish(subject, b"")

    assert (await heard.next_msg(5)).subject == "_INBOX.x.y"


@pytest.mark.parametrize("role", [Role.MANAGER, Role.API, Role.OPERATOR, Role.STREAMER])
async def test_no_client_publishes_to_an_identified_subject(join: Join, role: Role) -> None:
    guest = await join("a", role)

    await guest.client.publish("opmas.identified.command", b"")

    assert len(await guest.refused()) == 1


async def test_a_token_that_grants_itself_permissions_is_refused(
    server: EmbeddedServer, tmp_path: Path, visit: Visit
) -> None:
    ring, user = keys.load(tmp_path), KeyPair.new(USER)
    wish = {"type": "user", "issuer_account": ring.account.public, "pub": {"allow": [">"]}, "subs": -1}
    creds = tmp_path / "own.creds"
    creds.write_text(creds_text(encode(ring.signers[Role.AGENT], user.public, "a", wish), user))

    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await visit(Login(server.url, creds, "_INBOX.agent.a-0"))


async def test_an_agent_publishes_into_a_stream_but_cannot_read_it(join: Join) -> None:
    operator = await join("cli", Role.OPERATOR)
    await operator.client.jetstream().add_stream(StreamConfig(name="found", subjects=["findings.>"]))
    agent = await join("a", publish=("findings.>",))

    assert (await agent.client.jetstream().publish("findings.x", b"1", timeout=5)).seq == 1

    await agent.client.publish("$JS.API.DIRECT.GET.found.findings.x", b"", reply="agent.b.command")
    assert len(await agent.refused()) == 1


async def test_a_trusted_agent_works_with_the_streams_that_bear_its_name(join: Join) -> None:
    agent = await join("a", Role.STREAMER, publish=("events.a",))
    js = agent.client.jetstream(timeout=5)

    await js.add_stream(StreamConfig(name="a", subjects=["events.a"]))
    await js.publish("events.a", b"1")
    consumer = await js.pull_subscribe("events.a", durable="d", stream="a")
    message = (await consumer.fetch(1, timeout=5))[0]
    await message.ack_sync(timeout=5)
    bucket = await js.create_key_value(KeyValueConfig(bucket="a"))
    await bucket.put("key", b"value")
    assert (await bucket.get("key")).value == b"value"
    assert not await agent.refused()

    for subject in ("STREAM.CREATE.b", "STREAM.DELETE.KV_b", "CONSUMER.CREATE.b.d", "STREAM.LIST"):
        await agent.client.publish(f"$JS.API.{subject}", b"", reply=agent.client.new_inbox())
    assert len(await agent.refused()) == 4


async def test_a_viewer_asks_and_listens_but_commands_nobody(join: Join) -> None:
    manager, viewer = await join("node-1", Role.MANAGER), await join("watch", Role.VIEWER, inbox_prefix="_INBOX")

    async def answer(msg: Msg) -> None:
        await manager.client.publish(msg.reply, b"facts")

    await manager.client.subscribe("opmas.identified.query", "managers", cb=answer)
    await manager.settle()
    for subject in ("agent.manager.response", "agent.status", "agent.metrics", "agent.a.log", "findings.>"):
        await viewer.client.subscribe(subject)
    assert (await viewer.client.request("agent.manager.query", b"", timeout=5)).data == b"facts"
    assert not await viewer.refused()

    forbidden = ("agent.manager.command", "opmas.identified.query", "agent.a.command", "agent.a.query", "agent.status",
                 "events.x", "run.1.live", "_INBOX.manager.node-1.x", "$JS.API.INFO")  # fmt: skip
    for subject in forbidden:
        await viewer.client.publish(subject, b"")
    for subject in ("agent.>", "agent.a.command", "run.>", "_INBOX.manager.node-1.>", "$SRV.PING"):
        await viewer.client.subscribe(subject)
    assert len(await viewer.refused()) == len(forbidden) + 5
