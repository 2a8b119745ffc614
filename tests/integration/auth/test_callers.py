"""Who is let in, for which workspace, and what is there for them."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from management_api.auth.keys import KeyRing, new_key
from management_api.store import ApiStore, KeyRow
from tests.integration.api.peer import Peer
from tests.integration.api.server import Server, running
from tests.integration.auth.conftest import SECRET, bearer, owned


def ids(answer: httpx2.Response) -> list[str]:
    return [one["id"] for one in answer.json()["agents"]]


async def test_a_list_shows_what_the_caller_may_use(api: Server, http: httpx2.AsyncClient, peer: Peer) -> None:
    peer.known |= {"picky": owned("picky", "a", roles=("operator",)), "both": owned("both", "a", "b")}
    seen = {
        "viewer of a": ids(await http.get("/api/v1/agents", headers=bearer("viewer"))),
        "operator of a": ids(await http.get("/api/v1/agents", headers=bearer("operator"))),
        "admin of b": ids(await http.get("/api/v1/agents", headers=bearer("admin", "b"))),
        "nobody's": ids(await http.get("/api/v1/agents", headers=bearer("user", None))),
        "admin": ids(await http.get("/api/v1/agents", headers=api.headers)),
        "admin for b": ids(await http.get("/api/v1/agents", headers=api.headers | {"x-workspace-id": "b"})),
    }

    assert {caller: sorted(found) for caller, found in seen.items()} == {
        "viewer of a": ["both", "mine", "shared"],
        "operator of a": ["both", "mine", "picky", "shared"],
        "admin of b": ["both", "shared", "theirs"],
        "nobody's": ["shared"],
        "admin": ["both", "mine", "picky", "shared", "theirs"],
        "admin for b": ["both", "shared", "theirs"],
    }


async def test_another_tenant_s_agent_looks_like_one_that_is_none(http: httpx2.AsyncClient, peer: Peer) -> None:
    answers = [await http.get(f"/api/v1/agents/{name}", headers=bearer()) for name in ("theirs", "thairs")]

    bodies = [answer.json() | {"correlationId": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert str(bodies[0]).replace("theirs", "thairs") == str(bodies[1])


async def test_a_workspace_may_be_repeated_but_not_chosen(api: Server, http: httpx2.AsyncClient, peer: Peer) -> None:
    statuses = [
        (await http.get("/api/v1/agents", headers=headers | {"x-workspace-id": workspace})).status_code
        for headers, workspace in ((bearer(), "a"), (bearer(), "b"), (bearer("admin", "a"), "b"), (api.headers, "b"),
                                   (bearer(workspace=None), "default"), (bearer(workspace="../x"), "../x"))
    ]  # fmt: skip

    assert statuses == [200, 403, 403, 200, 200, 403]


async def test_a_role_without_the_scope_is_told_which_it_takes(http: httpx2.AsyncClient, peer: Peer) -> None:
    answer = await http.post("/api/v1/agents/mine/stop", headers=bearer("viewer"))

    assert answer.status_code == 403
    assert "agents:control" in answer.json()["message"]
    assert [seen.name for seen in peer.seen] == []


@pytest.mark.parametrize(
    ("subject", "said"),
    [("ann", "ann@a"), ("a\r\nOpmas-Caller: admin", "a??Opmas-Caller:?admin@a"), ("x" * 256, "x" * 200)],
)
async def test_the_manager_is_told_for_whom_the_api_speaks(
    http: httpx2.AsyncClient, peer: Peer, subject: str, said: str
) -> None:
    await http.post("/api/v1/agents/mine/stop", headers=bearer(sub=subject))

    assert peer.seen[-1].headers["Opmas-Caller"] == said


@pytest.mark.parametrize(
    ("name", "workspaces", "status"), [("mine", ["a"], 200), ("mine", ["a", "b"], 403), ("mine", [], 403),
                                       ("shared", ["a"], 403), ("both", ["a"], 403)]
)  # fmt: skip
async def test_a_workspace_neither_takes_from_others_nor_gives_them_agents(
    http: httpx2.AsyncClient, peer: Peer, name: str, workspaces: list[str], status: int
) -> None:
    peer.known["both"] = owned("both", "a", "b")

    answer = await http.put(f"/api/v1/agents/{name}", headers=bearer(), json={"access": {"workspaces": workspaces}})

    assert answer.status_code == status
    assert ("update" in [seen.name for seen in peer.seen]) is (status == 200)


async def test_events_of_other_tenants_are_not_heard_of(http: httpx2.AsyncClient, peer: Peer) -> None:
    peer.known["echo"] = owned("echo", "b")  # whom the one event is about

    heard = [(await http.get("/api/v1/events", headers=bearer(workspace=w))).json()["events"] for w in ("a", "b")]

    assert [len(events) for events in heard] == [0, 1]


async def test_a_key_is_shown_once_works_and_ends_with_its_revocation(
    api: Server, http: httpx2.AsyncClient, peer: Peer
) -> None:
    made = await http.post(
        "/api/v1/tokens", headers=api.headers, json={"name": "ci", "role": "viewer", "workspace": "a"}
    )
    assert made.status_code == 201
    key = made.json()
    mine = {"Authorization": f"Bearer {key['token']}"}

    assert sorted(ids(await http.get("/api/v1/agents", headers=mine))) == ["mine", "shared"]
    assert (await http.post("/api/v1/agents/mine/stop", headers=mine)).status_code == 403
    listed = (await http.get("/api/v1/tokens", headers=api.headers)).json()["tokens"]
    assert key["token"] not in str(listed)
    assert key["id"] in [one["id"] for one in listed]

    assert (await http.delete(f"/api/v1/tokens/{key['id']}", headers=api.headers)).status_code == 204
    assert (await http.delete(f"/api/v1/tokens/{key['id']}", headers=api.headers)).status_code == 204
    assert (await http.get("/api/v1/agents", headers=mine)).status_code == 401
    assert (await http.delete("/api/v1/tokens/none", headers=api.headers)).status_code == 404
    kept = b"".join(path.read_bytes() for path in api.home.glob("api.db*")) + api.log.read_bytes()
    assert key["token"].encode() not in kept


async def test_a_stream_does_not_outlive_the_credentials_that_opened_it(http: httpx2.AsyncClient, peer: Peer) -> None:
    headers = bearer(exp=time.time() + 2)

    async with (
        asyncio.timeout(30),
        http.stream("GET", "/api/v1/agents/mine/logs?follow=true", headers=headers) as heard,
    ):
        lines = [line async for line in heard.aiter_lines()]

    assert heard.status_code == 200
    assert "unauthenticated" in next(line for line in reversed(lines) if line.startswith("data:"))


async def test_a_key_revoked_anywhere_no_longer_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("management_api.auth.keys._LOOK_S", 0.05)
    key_id, key, digest = new_key()
    async with asyncio.timeout(30), ApiStore.open(f"sqlite:///{tmp_path / 'api.db'}") as store:
        await store.prepare()
        await store.add_key(KeyRow(id=key_id, hash=digest, name="x", roles=["viewer"], workspace="a", created_by="a"))
        ring = KeyRing(store)
        caller = await ring.caller(key)
        assert caller.is_valid()

        looking = asyncio.create_task(ring.keep_up(), name="keep up")
        await store.revoke_key(key_id)  # as another process would
        while caller.is_valid():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        looking.cancel()
        await asyncio.wait([looking])


async def test_an_expired_key_and_an_invented_one_are_refused(api: Server, http: httpx2.AsyncClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    body = {"name": "brief", "role": "admin", "expires_at": soon.isoformat()}
    key = (await http.post("/api/v1/tokens", headers=api.headers, json=body)).json()["token"]
    await asyncio.sleep(0.4)

    answers = [
        await http.get("/api/v1/agents", headers={"Authorization": f"Bearer {token}"})
        for token in (key, "opk_" + "x" * 43, "opk_short", "x.y.z")
    ]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert "has expired" in answers[0].json()["message"]


@pytest.mark.parametrize(
    ("caller", "body", "status"),
    [
        ({}, {"name": "x", "role": "admin"}, 201),
        ({"workspace": "a"}, {"name": "x", "role": "admin"}, 201),
        ({"workspace": "a"}, {"name": "x", "role": "viewer", "workspace": "b"}, 403),
        ({"roles": [], "scope": "tokens:write agents:read"}, {"name": "x", "scopes": ["agents:read"]}, 201),
        ({"roles": [], "scope": "tokens:write agents:read"}, {"name": "x", "role": "viewer"}, 403),
        ({"roles": ["operator"]}, {"name": "x", "role": "viewer"}, 403),
        ({}, {"name": "x"}, 400),
        ({}, {"name": "x", "role": "king"}, 400),
        ({}, {"name": "", "role": "viewer"}, 400),
        ({}, {"name": "x", "role": "viewer", "workspace": "a/b"}, 400),
        ({}, {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}, 400),
        ({}, {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00"}, 400),
    ],
)
async def test_nobody_hands_on_more_than_they_have(
    http: httpx2.AsyncClient, caller: dict[str, Any], body: dict[str, Any], status: int
) -> None:
    headers = bearer(**({"role": "admin", "workspace": None} | caller))

    made = await http.post("/api/v1/tokens", headers=headers, json=body)

    assert made.status_code == status
    if status == 201:
        assert made.json()["workspace"] == (caller.get("workspace") or ("default" if "scopes" in body else ""))


async def test_the_keys_of_a_workspace_are_its_own_affair(api: Server, http: httpx2.AsyncClient) -> None:
    theirs = (
        await http.post("/api/v1/tokens", headers=bearer("admin", "b"), json={"name": "b", "role": "viewer"})
    ).json()

    listed = (await http.get("/api/v1/tokens", headers=bearer("admin", "a"))).json()["tokens"]

    assert theirs["id"] not in [key["id"] for key in listed]
    assert (await http.delete(f"/api/v1/tokens/{theirs['id']}", headers=bearer("admin", "a"))).status_code == 404
    mine = {"Authorization": f"Bearer {theirs['token']}"}
    assert (await http.get("/api/v1/tokens", headers=mine)).status_code == 403


async def test_the_last_use_of_a_key_is_remembered(tmp_path: Path, nats_url: str) -> None:
    with running(tmp_path, nats_url) as api:
        async with httpx2.AsyncClient(base_url=api.url, timeout=30, trust_env=False) as http:
            made = await http.post("/api/v1/tokens", headers=api.headers, json={"name": "x", "role": "viewer"})
            await http.get("/api/v1/tokens", headers={"Authorization": f"Bearer {made.json()['token']}"})

    async with ApiStore.open(f"sqlite:///{tmp_path / 'api.db'}") as store:
        await store.prepare()
        assert (await store.keys())[0].last_used_at is not None


async def test_who_asks_too_much_is_told_when_to_come_back_and_others_are_not_held_up(
    tmp_path: Path, nats_url: str, peer: Peer
) -> None:
    limits = {"OPMAS_RATE_LIMIT__PER_KEY": "3/minute", "OPMAS_RATE_LIMIT__PER_WORKSPACE": "5/minute"}
    with running(tmp_path, nats_url, JWT_SECRET=SECRET, **limits) as api:
        async with httpx2.AsyncClient(base_url=api.url, timeout=30, trust_env=False) as http:

            async def asked(times: int, headers: dict[str, str]) -> list[httpx2.Response]:
                return [await http.get("/api/v1/agents", headers=headers) for _ in range(times)]

            ann = await asked(4, bearer())
            ben = await asked(3, bearer(sub="ben"))
            cid = await asked(1, bearer(sub="cid", workspace="b"))
            admin = await asked(8, api.headers)

    assert [answer.status_code for answer in ann] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in ann] == ["2", "1", "0", "0"]
    assert ann[0].headers["ratelimit-limit"] == "3"
    assert 1 <= int(ann[3].headers["retry-after"]) <= 60
    assert ann[3].json()["error"] == "rate_limited"
    assert [answer.status_code for answer in ben] == [200, 200, 429]  # the workspace's five are used up
    assert cid[0].status_code == 200
    assert {answer.status_code for answer in admin} == {200}


async def test_without_authentication_only_this_machine_s_own_programs_are_let_in(
    tmp_path: Path, nats_url: str, peer: Peer
) -> None:
    with running(tmp_path, nats_url, OPMAS_AUTH__MODE="none") as api:
        async with httpx2.AsyncClient(base_url=api.url, timeout=30, trust_env=False) as http:
            statuses = [
                (await http.get("/api/v1/agents", headers=headers)).status_code
                for headers in (
                    {},
                    {"Origin": api.url},
                    {"Origin": "https://evil.example"},
                    {"Origin": "null"},
                    {"Origin": "//["},
                    {"Host": "evil.example"},
                    {"Host": "["},
                )
            ]

    assert statuses == [200, 200, 403, 403, 403, 403, 403]
    assert "authentication is off" in api.log.read_text()


async def test_while_the_database_is_away_keys_wait_and_the_others_come_in(
    tmp_path: Path, nats_url: str, peer: Peer, free_port: Callable[[], int]
) -> None:
    nowhere = f"postgresql://u:p@127.0.0.1:{free_port()}/d"
    with running(tmp_path, nats_url, JWT_SECRET=SECRET, DATABASE_URL=nowhere) as api:
        async with httpx2.AsyncClient(base_url=api.url, timeout=30, trust_env=False) as http:
            keyed = await http.get("/api/v1/agents", headers={"Authorization": "Bearer opk_" + "x" * 43})
            listed = await http.get("/api/v1/tokens", headers=api.headers)
            others = [await http.get("/api/v1/agents", headers=headers) for headers in (api.headers, bearer())]

    assert [keyed.status_code, listed.status_code] == [503, 503]
    assert keyed.json()["error"] == "database_unavailable"
    assert keyed.headers["retry-after"] == "1"
    assert "p@127" not in keyed.text
    assert [answer.status_code for answer in others] == [200, 200]
