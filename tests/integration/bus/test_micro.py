"""Managers and instances answer `nats micro`, on a real server, as its protocol wants it."""

import asyncio
import json
from functools import partial

import pytest

from opmas.bus import Bus, Endpoint, Service

PATIENCE_S = 30.0


async def ask(bus: Bus, subject: str) -> dict[str, object]:
    answer = await bus.request(subject, b"", PATIENCE_S)
    found: dict[str, object] = json.loads(answer.data)
    return found


@pytest.mark.parametrize("address", ["$SRV.{}", "$SRV.{}.echo", "$SRV.{}.echo.echo-0"])
async def test_a_service_is_found_by_verb_by_name_and_by_id(nats_url: str, address: str) -> None:
    endpoint = Endpoint("command", "agent.echo.command")
    service = Service("echo", "echo-0", "not semver", metadata={"type": "test"}, endpoints=(endpoint,))
    with endpoint.request():
        pass
    with pytest.raises(ValueError, match="wrong"), endpoint.request():
        raise ValueError("wrong")

    async with (
        asyncio.timeout(PATIENCE_S),
        await Bus.connect(nats_url, name="service") as bus,
        await Bus.connect(nats_url, name="asker") as asker,
        asyncio.TaskGroup() as tasks,
    ):
        listening = [
            await bus.subscribe(subject, partial(service.answer, bus), tasks=tasks) for subject in service.subjects
        ]
        await bus.flush()
        ping, info, stats = [await ask(asker, address.format(verb)) for verb in ("PING", "INFO", "STATS")]
        for subscription in listening:
            await subscription.drain()

    assert ping == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "echo",
        "id": "echo-0",
        "version": "0.0.0",
        "metadata": {"type": "test"},
    }
    assert info["endpoints"] == [
        {"name": "command", "subject": "agent.echo.command", "queue_group": "", "metadata": {}}
    ]
    (counted,) = stats["endpoints"]  # type: ignore[misc]
    assert (counted["num_requests"], counted["num_errors"], counted["last_error"]) == (2, 1, "wrong")  # type: ignore[index]
