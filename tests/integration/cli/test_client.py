"""`OpmasClient` against a whole OPMAS: every noun of the management API, typed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from opmas.cli import home
from opmas.client import OpmasClient
from opmas.wire.errors import AgentNotFound, Conflict, InvalidRequest, PackageInvalid, PermissionDenied
from opmas.wire.params import AgentFields
from opmas.wire.status import AgentStatus
from tests.integration.cli.conftest import Shell

_PATIENCE_S = 60.0


@pytest.fixture
async def client(opmas: Shell, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpmasClient]:
    monkeypatch.setenv("OPMAS_HOME", opmas.env["OPMAS_HOME"])
    async with OpmasClient(home.api_url(), home.token()) as client:
        yield client


async def test_the_client_makes_changes_explains_and_takes_away_an_agent(client: OpmasClient) -> None:
    made = await client.register("made", "talker", AgentFields(labels={"by": "client"}, replicas=2))
    assert (made.labels, made.replicas, made.status) == ({"by": "client"}, 2, AgentStatus.STOPPED)
    with pytest.raises(Conflict):
        await client.register("made", "talker")
    with pytest.raises((PackageInvalid, InvalidRequest)):
        await client.register("other", "no-such-package")

    assert (await client.update("made", AgentFields(description="new", config={"a": 1}))).description == "new"
    assert (await client.config("made")).given == {"a": 1}
    assert (await client.start("made", wait=30)).status is AgentStatus.RUNNING
    assert (await client.reload("made")).accepted
    assert (await client.disable("made", wait=30)).status is AgentStatus.STOPPED
    assert (await client.why("made")).summary
    assert (await client.enable("made", wait=30)).status is AgentStatus.RUNNING
    assert {row.command for row in (await client.audit("made")).audit} >= {"register", "update", "disable", "enable"}

    results = await client.batch("stop", labels={"by": "client"}, wait=30)
    assert [(result.agent_id, result.status) for result in results] == [("made", "success")]
    assert [result.error is None for result in await client.batch("start", ["made", "nobody"])] == [True, False]

    await client.delete("made")
    with pytest.raises(AgentNotFound):
        await client.agent("made")
    assert (await client.nodes()).total == 1


async def test_following_goes_on_without_gap_or_doubling_over_a_killed_api(opmas: Shell, client: OpmasClient) -> None:
    api = home.up_record()["pids"]["api"]
    after = (await client.events()).next
    told = []
    async with asyncio.timeout(_PATIENCE_S), aclosing(client.follow_events("talker", after=after)) as events:
        await asyncio.to_thread(opmas, "restart", "talker")
        async for event in events:
            told.append(event)
            if len(told) == 1:
                os.kill(api, signal.SIGKILL)
                while (await asyncio.to_thread(opmas, "stop", "talker")).returncode:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.1)  # until `opmas up` has a new one
            if event.kind == "instance" and event.status is AgentStatus.STOPPED and event.cause.command == "stop":
                break

    listed = [event.id for event in (await client.events("talker")).events if after < event.id <= told[-1].id]
    assert [event.id for event in told] == listed


async def test_following_is_refused_at_once_with_a_wrong_token(client: OpmasClient) -> None:
    async with OpmasClient(home.api_url(), "wrong") as stranger, asyncio.timeout(_PATIENCE_S):
        with pytest.raises(PermissionDenied):
            await anext(stranger.follow_events(after=0))
