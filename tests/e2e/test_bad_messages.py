"""What arrives on any subject of the contract, however malformed: it is answered or dropped, and nobody falls."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from opmas.wire import subjects
from tests.node import Node, until, write_package

HEARER = """
    from opmas.agent import Agent, command, on


    class Worker(Agent):
        @on("events.heard")
        async def hear(self, message):
            self.metrics["heard"] += 1
            message.json()

        @command("echo")
        async def echo(self, params):
            return params
"""

DEEP = b"[" * 100_000 + b"]" * 100_000
LARGE = b"x" * 1_030_000  # the limit, 1 MiB, less the 8 KiB that headers may need
GARBAGE = [b"", b"{", b"null", b"[]", b'"start"', b"\xff\xfe\x00", DEEP, b'{"a":' * 100_000, LARGE, b"9" * 5000]


def requests(verb: str) -> list[bytes]:
    """Return messages that look like a command or query and are none."""
    start = b'{"%s": "start", "agent_id": "hearer"' % verb.encode()
    return [
        *GARBAGE,
        b'{"%s": 1, "agent_id": "hearer"}' % verb.encode(),
        b'{"%s": "nonsense", "agent_id": "hearer"}' % verb.encode(),
        b'{"%s": "\\ud800", "agent_id": "hearer"}' % verb.encode(),
        b'{"%s": "%s", "agent_id": "hearer"}' % (verb.encode(), LARGE[:1_000_000]),
        start + b', "params": []}',
        start + b', "params": {"x": ' + DEEP + b"}}",
        start + b', "params": {"wait": NaN}}',
        start + b', "params": {"wait": -1}}',
        start + b', "params": {"wait": 1e999}}',
        start + b', "params": {"%s": 1}}' % LARGE[:1_000_000],
        start + b', "params": {"wait": "long"}}',
        start + b', "timestamp": "never"}',
        b'{"%s": "scale", "agent_id": "hearer", "params": {"replicas": true}}' % verb.encode(),
        b'{"%s": "scale", "agent_id": "hearer", "params": {"replicas": 1000000}}' % verb.encode(),
        b'{"%s": "logs", "agent_id": "hearer", "params": {"after": "%%%%"}}' % verb.encode(),
        b'{"%s": "logs", "agent_id": "hearer", "params": {"tail": 99999999}}' % verb.encode(),
        b'{"%s": "events", "params": {"limit": -1}}' % verb.encode(),
    ]


HOSTILE_IDS = ["", "*", ">", "manager", "../../etc", "a b", "Hearer", "a" * 64, "a\u0000b", "a\nb", "ä", "$SYS", "-a"]


@pytest.fixture(scope="module")
def hearer(node: Node) -> Iterator[Node]:
    """The shared node with an agent that listens: it, the manager and the API live through all of this."""
    listens = {"subjects": {"subscribe": ["events.heard"]}}
    for name in ("hearer", "other"):  # whose own figures do not come between while they are forged
        write_package(node.packages, name, HEARER, permissions=listens, heartbeat={"interval": 100, "timeout": 300})
    before = node.running("hearer", "other"), node.pid("manager"), node.pid("api")
    yield node
    assert (node.running("hearer", "other"), node.pid("manager"), node.pid("api")) == before
    assert node.instances("hearer")[0]["restarts"] == 0


@contextlib.asynccontextmanager
async def connected(node: Node, creds: str, inbox: str, errors: list[str] | None = None) -> AsyncIterator[Client]:
    async def remember(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error))

    client = await node.nats(node.home / creds, inbox, error_cb=remember)
    try:
        yield client
    finally:
        await client.close()


def operator(node: Node) -> Any:
    return connected(node, "nats/cli.creds", "_INBOX")


def api(node: Node) -> Any:
    return connected(node, "nats/api.creds", "_INBOX.api.api")


def agent(node: Node, errors: list[str] | None = None) -> Any:
    return connected(node, "run/hearer/0/creds", "_INBOX.agent.hearer-0", errors)


async def ask(client: Client, subject: str, payload: bytes) -> Any:
    return json.loads((await client.request(subject, payload, timeout=30)).data)


@pytest.mark.parametrize(("subject", "verb"), [(subjects.COMMAND, "command"), (subjects.QUERY, "query")])
async def test_the_manager_answers_what_it_cannot_understand_with_an_error(
    hearer: Node, subject: str, verb: str
) -> None:
    async with operator(hearer) as client:
        answers = [await ask(client, subject, message) for message in requests(verb)]
        for hostile in HOSTILE_IDS:
            name = "start" if verb == "command" else "get"
            answers.append(await ask(client, subject, json.dumps({verb: name, "agent_id": hostile}).encode()))

    assert {answer["status"] for answer in answers} == {"error"}
    assert {answer["error"]["code"] for answer in answers} == {"invalid_request"}
    assert all(answer["error"]["message"] for answer in answers)


@pytest.mark.parametrize("verb", ["command", "query"])
async def test_an_agent_answers_what_it_cannot_understand_with_an_error(hearer: Node, verb: str) -> None:
    async with api(hearer) as client:
        answers = [await ask(client, f"agent.hearer.{verb}", message) for message in GARBAGE]
        answers.append(await ask(client, f"agent.hearer.{verb}", b'{"%s": "nonsense"}' % verb.encode()))
        answers.append(await ask(client, f"agent.hearer.{verb}", b'{"%s": "info", "params": 5}' % verb.encode()))
        for message in GARBAGE:
            await client.publish("agent.hearer.run", message)
        echoed = await ask(client, "agent.hearer.command", b'{"command": "echo", "params": {"a": 1}}')

    assert {answer["error"]["code"] for answer in answers} == {"invalid_request"}
    assert echoed["result"] == {"a": 1}


async def test_an_agent_whose_handler_cannot_read_a_message_hears_the_next(hearer: Node) -> None:
    async with operator(hearer) as client, api(hearer) as asker:
        for message in GARBAGE:
            await client.publish("events.heard", message)
        await client.flush()

        async def heard() -> float:
            answer = await ask(asker, "agent.hearer.query", b'{"query": "metrics"}')
            return float(answer["result"].get("heard", 0))

        async with asyncio.timeout(30):
            while await heard() < len(GARBAGE):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.02)


async def test_heartbeats_and_figures_that_make_no_sense_are_dropped_and_those_that_do_are_shown(hearer: Node) -> None:
    beats = [
        b'{"status": "happy"}',
        b'{"status": "running", "pid": 1e999}',
        b'{"status": "running", "metadata": {"x": ' + DEEP + b"}}",
        b'{"status": "running", "instance_id": "hearer-' + b"9" * 5000 + b'"}',
        b'{"status": "running", "instance_id": "other-0"}',
        b'{"status": "running", "start_count": 99}',
        b'{"status": "running", "agent_id": "other", "token": "guessed"}',
        b'{"status": "running", "message": "' + LARGE[:900_000] + b'"}',
    ]
    figures = [
        b'{"metrics": {"a": {"a": 1}}}',
        b'{"metrics": [1]}',
        b'{"metrics": {' + b",".join(b'"k%d": 1' % n for n in range(60_000)) + b"}}",
        b'{"metrics": {"nan": NaN, "infinite": -Infinity, "%s": 1, "good": 2.5}}' % (b"n" * 1000),
    ]
    async with agent(hearer) as client:
        for word, messages in (("status", beats), ("metrics", figures)):
            for subject in (f"agent.hearer.{word}", f"agent.{word}"):
                for message in (*GARBAGE, *messages):
                    await client.publish(subject, message)
                    await client.flush(30)

    def shown() -> Any:
        status, found = hearer.api("GET", "/api/v1/agents/hearer/metrics")
        assert status == 200
        return found["metrics"]["custom"]

    until(lambda: shown() == {"good": 2.5}, "the one good figure")
    assert hearer.agent("hearer")["status"] == "running"
    assert "cannot handle a message" not in hearer.log.read_text()


async def test_eight_megabytes_are_refused_by_nats_and_cost_the_sender_its_connection_only(hearer: Node) -> None:
    errors: list[str] = []
    async with connected(hearer, "nats/cli.creds", "_INBOX", errors) as client:
        with pytest.raises(nats.errors.MaxPayloadError):
            await client.publish(subjects.COMMAND, b"x" * 8_000_000)
        client._max_payload = 10_000_000  # a client that does not look
        await client.publish(subjects.COMMAND, b"x" * 8_000_000)
        async with asyncio.timeout(30):
            while not any("maximum payload" in error.lower() for error in errors):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async with operator(hearer) as client:
        assert (await ask(client, subjects.QUERY, b'{"query": "health"}'))["status"] == "success"


def test_last_words_of_any_length_fit_into_the_answers_that_quote_them(hearer: Node) -> None:
    code = "import sys\nprint('y' * 2_000_000)\nfor _ in range(10):\n    print('\\x01' * 600)\nsys.exit(4)\n"
    write_package(hearer.packages, "shouter", code, restart={"condition": "never"})
    until(lambda: hearer.api("GET", "/api/v1/agents/shouter")[1].get("status") == "error", "it to fail")

    assert "exited with code 4" in hearer.cli("describe", "shouter").stdout
    started = hearer.cli("start", "shouter")
    assert started.returncode == 1
    assert "cannot start 'shouter': exited with code 4" in started.stderr
    for _ in range(40):
        hearer.api("POST", "/api/v1/agents/shouter/start?wait=30")

    # More than one message can hold: read page by page.
    seen: list[Any] = []
    after = 0
    while page := hearer.api("GET", f"/api/v1/events?agent=shouter&limit=1000&after={after}")[1]["events"]:
        seen += page
        after = page[-1]["id"]
    assert sum(event["cause"].get("exit_code") == 4 for event in seen) == 42
    latest = hearer.api("GET", "/api/v1/events?agent=shouter&limit=1000")[1]["events"]
    assert latest == seen[-len(latest) :]
    assert len(latest) < len(seen)
    hearer.cli("stop", "shouter")


def test_a_manifest_that_asks_for_another_agents_subjects_is_refused(hearer: Node) -> None:
    wanted = {"subjects": {"subscribe": ["agent.hearer.command"], "publish": ["agent.hearer.status"]}}
    write_package(hearer.packages, "thief", HEARER, permissions=wanted)

    def error() -> str:
        found = hearer.api("GET", "/api/v1/packages")[1]["packages"]
        return str(next((package["error"] for package in found if package["folder"] == "thief"), ""))

    assert "agent.hearer" in until(error, "the package to be listed with its error")
    assert hearer.api("GET", "/api/v1/agents/thief")[0] == 404


async def test_nats_keeps_an_agent_from_speaking_or_hearing_as_another(hearer: Node) -> None:
    errors: list[str] = []
    foreign = ("agent.other.status", "agent.other.command", "agent.manager.command", "agent.manager.response", "run.x")
    async with agent(hearer, errors) as client:
        for subject in foreign:
            await client.publish(subject, b"{}")
            await client.subscribe(subject)
        await client.subscribe(">")
        await client.flush()
        async with asyncio.timeout(30):
            while len(errors) < 2 * len(foreign) + 1:  # noqa: ASYNC110 - nothing announces them
                await asyncio.sleep(0.02)

    assert all("permissions violation" in error.lower() for error in errors)
