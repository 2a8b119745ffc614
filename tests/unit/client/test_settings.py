"""What a client is made with: arguments, environment, defaults, and what it refuses."""

import pytest

from opmas.client.settings import ClientSettings
from opmas.wire.errors import InvalidRequest


def test_what_is_given_stands_above_the_environment_and_that_above_the_defaults() -> None:
    environment = {"AGENTOS_URL": "http://a:7777", "AGENTOS_TIMEOUT_MS": "1500", "AGENTOS_RETRY_ATTEMPTS": "0"}

    told = ClientSettings.of(environment=environment)
    given = ClientSettings.of("http://b", "t", 2.0, 5, environment=environment)
    plain = ClientSettings.of(environment={})

    assert (told.url, told.timeout_s, told.retries) == ("http://a:7777", 1.5, 0)
    assert (given.url, given.token, given.timeout_s, given.retries) == ("http://b", "t", 2.0, 5)
    assert (plain.url, plain.token, plain.timeout_s, plain.retries) == ("http://127.0.0.1:8000", "", 60.0, 3)


def test_the_projects_own_name_stands_above_the_older_one() -> None:
    environment = {"AGENTOS_URL": "http://a", "OPMAS_URL": "http://b", "OPMAS_TOKEN": "t"}

    settings = ClientSettings.of(environment=environment)

    assert (settings.url, settings.token) == ("http://b", "t")
    assert "'t'" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENTOS_TIMEOUT_MS", "soon"),
        ("AGENTOS_TIMEOUT_MS", "0"),
        ("AGENTOS_TIMEOUT_MS", "-5"),
        ("AGENTOS_RETRY_ATTEMPTS", "many"),
        ("AGENTOS_RETRY_ATTEMPTS", "1000"),
        ("OPMAS_URL", "localhost:8000"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot"):
        ClientSettings.of(environment={name: value})
