"""The manager's settings: environment above file above default, and no mistake overlooked."""

import os
from pathlib import Path

import pytest
import yaml

from agent_manager.settings import CONFIG_FILE, ManagerSettings
from opmas.settings import SettingsInvalid


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPMAS_", "NATS_", "DATABASE_URL")):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent_manager.yaml"


def test_the_file_in_the_repository_says_the_defaults_and_names_every_setting() -> None:
    text = CONFIG_FILE.read_text()
    stands = yaml.safe_load(text)
    defaults = ManagerSettings.load(None)

    assert ManagerSettings.load(CONFIG_FILE) == defaults
    for section in ("service", "database", "nats", "permissions"):
        fields = type(getattr(defaults, section)).model_fields
        missing = [name for name in fields if name not in stands[section] and f"# {name}:" not in text]
        assert [name for name in missing if name != "version"] == []


def test_the_environment_stands_above_the_file_and_the_file_above_the_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("service: {log_level: debug, drain_timeout: 7}\ndatabase: {url: sqlite:///from-file.db}")
    monkeypatch.setenv("OPMAS_MANAGER__LOG_LEVEL", "error")
    monkeypatch.setenv("OPMAS_PERMISSIONS__ALLOW", '["alerts.>"]')

    settings = ManagerSettings.load(file)

    assert settings.service.log_level == "error"
    assert settings.service.drain_timeout == 7
    assert settings.service.monitoring_interval == 10
    assert settings.permissions.allow == ("alerts.>",)
    assert settings.database_url == "sqlite:///from-file.db"


def test_the_plain_names_are_heeded_below_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a@b/c")
    monkeypatch.setenv("NATS_URL", "nats://theirs:4222")
    assert ManagerSettings.load(None).database_url == "postgresql://a@b/c"

    monkeypatch.setenv("OPMAS_NATS__URL", "nats://ours:4222")
    assert ManagerSettings.load(None).nats.url == "nats://ours:4222"


def test_without_a_database_url_it_is_sqlite_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPMAS_HOME", str(tmp_path))

    assert ManagerSettings.load(None).database_url == f"sqlite:///{tmp_path}/manager.db"


def test_a_mistake_in_the_file_is_an_error_with_a_suggestion(file: Path) -> None:
    for text, words in {
        "service: {drain_timout: 3}": "service.drain_timout: unknown key (did you mean 'drain_timeout'?)",
        "servce: {}": "servce: unknown key (did you mean 'service'?)",
        "service: {node: 'a.b'}": "a node's name becomes a subject token",
        "service: {on_manager_exit: kill}": "on_manager_exit: Input should be 'stop' or 'keep'",
        "service: {discovery_interval: 0}": "discovery_interval: Input should be greater than 0",
        "models: {fast: {modell: x}}": "models.fast.modell: unknown key",
        "models: {fast: {model: gpt-5}}": "models.fast.model: Value error, write provider:id",
        "models: {fast: {model: 'a:b', key: sk-123}}": "models.fast.key: Value error, give the name of the variable",
        "- a list": "it must be a mapping of sections",
        "{": "cannot read",
    }.items():
        file.write_text(text)
        with pytest.raises(SettingsInvalid) as raised:
            ManagerSettings.load(file)
        assert words in raised.value.message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("OPMAS_MANAGER__LOGLEVEL", "OPMAS_MANAGER__LOG_LEVEL"),
        ("OPMAS_PERMISSIONS__ALOW", "OPMAS_PERMISSIONS__ALLOW"),
    ],
)
def test_a_mistyped_variable_is_an_error_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    monkeypatch.setenv(wrong, "x")

    with pytest.raises(SettingsInvalid) as raised:
        ManagerSettings.load(None)
    assert wrong in raised.value.message
    assert right in raised.value.message


def test_the_other_server_s_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPMAS_API__PORT", "1")

    ManagerSettings.load(None)


def test_no_password_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPMAS_NATS__PASSWORD", "hunter2")

    assert "hunter2" not in repr(ManagerSettings.load(None))
