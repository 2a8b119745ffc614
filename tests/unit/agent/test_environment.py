"""The environment is read whole, or the variable that is wrong is named."""

from pathlib import Path

import pytest

from opmas.agent.environment import Environment
from opmas.wire.errors import InvalidRequest


def test_an_id_is_enough() -> None:
    environment = Environment.read({"AGENT_ID": "echo"})

    assert (environment.instance_id, environment.name, environment.inbox_prefix) == ("echo-0", "echo", "_INBOX_echo")
    assert (environment.heartbeat_interval_s, environment.stop_grace_s) == (5.0, 5.0)


def test_what_the_manager_says_is_taken() -> None:
    environment = Environment.read(
        {
            "AGENT_ID": "echo",
            "OPMAS_INSTANCE_ID": "echo-3",
            "NATS_INBOX_PREFIX": "_INBOX.agent.echo-3",
            "NATS_CREDS": "/run/creds",
            "OPMAS_START_COUNT": "7",
            "OPMAS_HEARTBEAT_INTERVAL_S": "0.5",
        }
    )

    assert (environment.instance_id, environment.inbox_prefix) == ("echo-3", "_INBOX.agent.echo-3")
    assert (environment.nats_creds, environment.start_count) == (Path("/run/creds"), 7)
    assert environment.heartbeat_interval_s == 0.5


@pytest.mark.parametrize("agent_id", ["", "*", "a.b", "manager"])
def test_an_id_that_names_no_agent_is_refused(agent_id: str) -> None:
    with pytest.raises(InvalidRequest, match="AGENT_ID"):
        Environment.read({"AGENT_ID": agent_id})


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_number_that_is_none_is_named(value: str) -> None:
    with pytest.raises(InvalidRequest, match="OPMAS_HEARTBEAT_INTERVAL_S"):
        Environment.read({"AGENT_ID": "echo", "OPMAS_HEARTBEAT_INTERVAL_S": value})


def test_a_password_in_the_address_is_not_shown() -> None:
    assert "secret" not in repr(Environment.read({"AGENT_ID": "echo", "NATS_URL": "nats://me:secret@host"}))
