"""What `/api/v1/system` shows of the settings."""

import json

import pytest

from management_api.settings import ApiSettings
from management_api.system import without_secrets


def test_settings_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPMAS_NATS__URL", "nats://joe:hush@one:4222,nats://hush@two:4222")
    monkeypatch.setenv("OPMAS_NATS__PASSWORD", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://joe:hush@db/opmas")
    monkeypatch.setenv("JWT_SECRET", "hush" * 8)

    shown = without_secrets(ApiSettings.load(None))

    assert "hush" not in json.dumps(shown)
    assert shown["nats"]["url"] == "nats://one:4222,nats://two:4222"  # type: ignore[index,call-overload]
    assert shown["database"]["url"] == "postgresql://db/opmas"  # type: ignore[index,call-overload]
    assert shown["service"]["port"] == 8000  # type: ignore[index,call-overload]
