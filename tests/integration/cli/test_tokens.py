"""`opmas token`: keys and credentials that open what their role opens, on a real node."""

import asyncio
import json
import stat
from pathlib import Path

import nats.errors
import pytest

from opmas.bus.client import SafeClient
from tests.integration.cli.conftest import Shell, Typed


def test_token_without_a_verb_still_prints_the_admin_token(opmas: Shell, typed: Typed) -> None:
    assert typed(opmas, "token").stdout.startswith("opmas_")


def test_a_key_opens_what_its_role_opens_until_it_is_revoked(opmas: Shell, typed: Typed) -> None:
    made = typed(opmas, "token", "create", "--name", "ci", "--role", "viewer", "--expires", "2h")
    key = made.stdout.strip()
    key_id = made.stderr.split(",")[0]
    assert made.returncode == 0
    assert key.startswith("opk_")

    assert typed(opmas, "ls", OPMAS_TOKEN=key).returncode == 0
    refused = typed(opmas, "stop", "greeter", OPMAS_TOKEN=key)
    assert (refused.returncode, "agents:control" in refused.stderr) == (5, True)
    listed = typed(opmas, "token", "ls").stdout
    assert key not in listed
    assert [line.split()[1:5] for line in listed.splitlines() if key_id in line] == [
        ["ci", "viewer", "default", "valid"]
    ]

    assert typed(opmas, "token", "revoke", key_id).stdout == f"{key_id}: revoked\n"
    assert typed(opmas, "ls", OPMAS_TOKEN=key).returncode == 5
    assert "revoked" in typed(opmas, "token", "ls").stdout


def test_a_key_as_a_document_has_all_that_scripts_need(opmas: Shell, typed: Typed) -> None:
    words = ("token", "create", "--name", "x", "--role", "operator", "--workspace", "a", "--expires", "never", "--json")

    made = json.loads(typed(opmas, *words).stdout)

    assert made["token"].startswith("opk_")
    assert (made["role"], made["workspace"], made["expires_at"]) == ("operator", "a", None)
    assert made["id"] in [key["id"] for key in json.loads(typed(opmas, "token", "ls", "--json").stdout)["tokens"]]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create",), 2, "--name"),
        (("create", "--name", "x", "--role", "king"), 2, "king"),
        (("create", "--name", "x", "--expires", "soon"), 2, "30m, 12h, 90d"),
        (("create", "--name", "x", "--file", "/tmp/x"), 2, "--file"),
        (("create", "--name", "x", "--nats", "--role", "admin"), 2, "operator and viewer"),
        (("create", "--name", "x", "--nats", "--expires", "never"), 2, "limited time"),
        (("create", "--name", "no good", "--nats", "--role", "viewer"), 2, "may not name a NATS user"),
        (("revoke",), 2, "no id"),
        (("revoke", "knone"), 3, "no such API key"),
        (("revoke", "../agents/greeter"), 3, "no key's id"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(
    opmas: Shell, typed: Typed, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = typed(opmas, "token", *words)

    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr


async def test_credentials_for_nats_let_a_viewer_ask_and_an_operator_command(opmas: Shell, tmp_path: Path) -> None:
    url = json.loads((Path(opmas.env["OPMAS_HOME"]) / "up.json").read_text())["nats_url"]
    stop = json.dumps({"command": "stop", "agent_id": "talker"}).encode()

    async def made(role: str) -> SafeClient:
        file = tmp_path / f"{role}.creds"
        words = ("token", "create", "--nats", "--name", f"a-{role}", "--role", role, "--file", str(file))
        assert (await asyncio.to_thread(opmas, *words)).stdout.strip() == str(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        client = SafeClient()
        await client.connect(url, user_credentials=str(file))
        return client

    async with asyncio.timeout(60):
        viewer, operator = await made("viewer"), await made("operator")
        try:
            asked = await viewer.request("agent.manager.query", b'{"query": "list"}', timeout=10)
            with pytest.raises(nats.errors.TimeoutError):
                await viewer.request("agent.manager.command", stop, timeout=1)
            obeyed = await operator.request("agent.manager.command", stop, timeout=10)
        finally:
            await viewer.end(politely=False)
            await operator.end(politely=False)

    assert json.loads(asked.data)["status"] == json.loads(obeyed.data)["status"] == "success"
