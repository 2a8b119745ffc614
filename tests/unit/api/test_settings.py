"""The API's settings, and the token beside them."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from management_api.settings import CONFIG_FILE, ApiSettings
from management_api.token import ensure_token, token_path
from opmas.settings import SettingsInvalid


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPMAS_", "NATS_", "DATABASE_URL", "AGENTOS_")):
            monkeypatch.delenv(name)


def test_the_file_in_the_repository_says_the_defaults() -> None:
    assert ApiSettings.load(CONFIG_FILE) == ApiSettings.load(None)


def test_the_file_in_the_repository_names_every_setting() -> None:
    text = CONFIG_FILE.read_text()
    stands = yaml.safe_load(text)

    for section in ("service", "database", "nats"):
        fields = type(getattr(ApiSettings.load(None), section)).model_fields
        missing = [name for name in fields if name not in stands[section] and f"# {name}:" not in text]
        # What mints credentials is the manager's business.
        assert [name for name in missing if name not in {"signing_key", "account"}] == []


def test_the_environment_stands_above_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "api.yaml"
    file.write_text("service: {port: 1, host: '::1'}")
    monkeypatch.setenv("OPMAS_API__PORT", "2")
    monkeypatch.setenv("NATS_URL", "nats://elsewhere:1")

    settings = ApiSettings.load(file)

    assert (settings.service.port, settings.service.host) == (2, "::1")
    assert settings.nats_url == "nats://elsewhere:1"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("service: {prot: 1}", "did you mean 'port'"),
        ("servce: {}", "did you mean 'service'"),
        ("service: {port: 99999}", "service.port"),
        ("service: {log_level: loud}", "service.log_level"),
        ("a: [", "cannot read"),
        ("[]", "mapping"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "api.yaml"
    file.write_text(text)

    with pytest.raises(SettingsInvalid, match=word):
        ApiSettings.load(file)


def test_the_embedded_servers_credentials_are_found_but_never_sent_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPMAS_HOME", str(tmp_path))
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "api.creds").write_text("secret")

    assert ApiSettings.load(None).nats_creds == tmp_path / "nats" / "api.creds"
    monkeypatch.setenv("OPMAS_NATS__URL", "nats://elsewhere:4222")
    assert ApiSettings.load(None).nats_creds is None


def test_many_who_start_at_once_agree_on_one_private_token(tmp_path: Path) -> None:
    home = tmp_path / "home"

    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: ensure_token(home), range(64)))

    assert len(tokens) == 1
    assert len(tokens.pop()) > 40
    assert stat.S_IMODE(token_path(home).stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["admin.token"]


@pytest.mark.parametrize(
    ("names", "face"),
    [
        ({}, ("127.0.0.1", 7777)),
        ({"AGENTOS_DEFAULT_HOST": "::1", "AGENTOS_DEFAULT_PORT": "1"}, ("::1", 1)),
        ({"AGENTOS_HOST": "::1", "AGENTOS_PORT": "2", "AGENTOS_DEFAULT_PORT": "1"}, ("::1", 2)),
        ({"OPMAS_API__AGENTOS_PORT": "3", "AGENTOS_PORT": "2"}, ("127.0.0.1", 3)),
    ],
)
def test_names_in_use_for_the_port_of_runs_stand_below_our_own(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str], face: tuple[str, int]
) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)

    own, runs = ApiSettings.load(None).service.faces()

    assert runs[:2] == face
    assert own == ("127.0.0.1", 8000, "OPMAS_API__PORT")


def test_without_authentication_the_port_of_runs_too_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPMAS_AUTH__MODE", "none")
    monkeypatch.setenv("AGENTOS_HOST", "0.0.0.0")  # noqa: S104 - refused

    with pytest.raises(SettingsInvalid, match="for 127"):
        ApiSettings.load(None)

    monkeypatch.setenv("AGENTOS_ENABLED", "false")
    assert len(ApiSettings.load(None).service.faces()) == 1


@pytest.mark.parametrize(
    ("path", "kilobytes"),
    [
        ("/api/v1/agents/echo/runs", 512),
        ("/api/v1/agents/echo/runs/r/confirmations/c", 512),
        ("/api/v1/agents/echo", 1024),
        ("/api/v1/sessions", 1024),
        ("/api/v1/files", 20 * 1024 + 64),
    ],
)
def test_a_body_may_be_as_long_as_its_path_needs(path: str, kilobytes: int) -> None:
    assert ApiSettings.load(None).body_limit(path) == kilobytes << 10
