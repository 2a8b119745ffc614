import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_manager.nats import Grant, Role, grantable
from agent_manager.nats.claims import decode
from agent_manager.nats.keypair import ACCOUNT, KeyPair
from agent_manager.nats.minting import Mint, check, parse_creds
from agent_manager.nats.roles import TEMPLATES
from opmas.wire.errors import InvalidRequest, PermissionDenied

SECRET_PLACES = ("agent.b.command", "run.1.live", "opmas.identified.query", "$SYS.x", "_INBOX.a")


@pytest.mark.parametrize("subject", ["logs.>", "findings.security", "events.*.new", "a", "Orders.EU-1.x_y", "a.*.>"])
def test_ordinary_subjects_are_grantable(subject: str) -> None:
    assert grantable(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "", ".", "a.", ".a", "a..b", ">", "*", "*.x", "agent.>", "agent.b.status", "run.x", "opmas.x", "$JS.API.>",
        "_INBOX.>", "_R_.x", "a.>.b", "a b", "a\n", "logs.>\n", "a.b*", "a.{{name()}}", "é.x", "x>.y", "agent",
    ],
)  # fmt: skip
def test_malformed_or_reserved_subjects_are_not(subject: str) -> None:
    assert not grantable(subject)


def matches(pattern: str, subject: str) -> bool:
    parts = [{"*": "[^.]+", ">": ".+"}.get(token, re.escape(token)) for token in pattern.split(".")]
    return re.fullmatch(r"\.".join(parts), subject) is not None


@given(st.lists(st.sampled_from(["*", ">", "agent", "run", "opmas", "$SYS", "_INBOX", "b", "a", "x*", ""]), max_size=4))
def test_no_grantable_subject_matches_what_is_ours(tokens: list[str]) -> None:
    subject = ".".join(tokens)
    assert not (grantable(subject) and any(matches(subject, place) for place in SECRET_PLACES))


@given(st.text(max_size=5))
def test_a_name_that_is_no_single_plain_token_is_refused(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        with pytest.raises(InvalidRequest):
            check(Grant(Role.AGENT, name, "a-0"))
        with pytest.raises(InvalidRequest):
            check(Grant(Role.OPERATOR, name))


@pytest.mark.parametrize("instance", ["", "*", "a.b", ">", "a-0\n"])
def test_an_instance_id_that_is_none_is_refused(instance: str) -> None:
    with pytest.raises(InvalidRequest):
        check(Grant(Role.AGENT, "a", instance))


def test_a_refused_subject_is_named() -> None:
    with pytest.raises(PermissionDenied, match=r"'agent\.b\.run'"):
        check(Grant(Role.AGENT, "a", "a-0", publish=("agent.b.run",)))


def test_an_unscoped_key_writes_the_same_permissions_into_the_token() -> None:
    account = KeyPair.new(ACCOUNT)
    grant = Grant(Role.AGENT, "a", "a-0", publish=("x.1", "x.2"))

    credentials = Mint(account.public, dict.fromkeys(Role, account), scoped=False).mint(grant)

    about = decode(parse_creds(credentials.text)[0])["nats"]
    assert {"agent.a.status", "x.1", "x.2"} <= set(about["pub"]["allow"])
    assert "_INBOX.agent.a-0.>" in about["sub"]["allow"]
    assert "{{" not in str(about)
    assert about["pub"]["deny"] == []
    assert len(about["pub"]["allow"]) == len(TEMPLATES[Role.AGENT].publish) + 1


def test_secrets_stay_out_of_what_is_logged() -> None:
    account = KeyPair.new(ACCOUNT)
    credentials = Mint(account.public, {Role.AGENT: account}).mint(Grant(Role.AGENT, "a", "a-0"))

    assert account.seed not in repr(account)
    assert parse_creds(credentials.text)[1] not in repr(credentials)


def test_no_role_answers_by_right_of_having_been_asked() -> None:
    assert all("resp" not in template.claims() for template in TEMPLATES.values())
