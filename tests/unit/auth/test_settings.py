"""What may be set about callers, and what is refused before anybody is let in."""

from pathlib import Path

import pytest

from management_api.auth.settings import JwtSettings
from management_api.settings import ApiSettings
from opmas.settings import SettingsInvalid

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JWT_SECRET", raising=False)
    monkeypatch.setenv("OPMAS_HOME", str(tmp_path))


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ApiSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return ApiSettings.load(None)


def test_there_is_no_default_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)

    assert settings.auth.mode == "token"
    assert not settings.auth.jwt.enabled


def test_jwt_secret_is_the_name_that_deployments_use_already(monkeypatch: pytest.MonkeyPatch) -> None:
    jwt = load(monkeypatch, JWT_SECRET=SECRET).auth.jwt

    assert (jwt.enabled, jwt.pinned, jwt.shared_secret()) == (True, "HS256", SECRET.encode())
    assert SECRET not in repr(jwt)


def test_a_section_below_a_section_is_set_by_its_variables_and_above_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "api.yaml"
    file.write_text(f"auth:\n  jwt: {{secret: {SECRET}, issuer: from-file, leeway: 5}}\n")
    monkeypatch.setenv("OPMAS_AUTH__JWT__ISSUER", "from-environment")

    jwt = ApiSettings.load(file).auth.jwt

    assert (jwt.issuer, jwt.leeway) == ("from-environment", 5)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JWT_SECRET": "s" * 31}, "has 31 bytes and needs 32"),
        ({"OPMAS_AUTH__JWT__SECRET_FILE": "/nowhere/secret"}, "cannot read secret_file"),
        ({"JWT_SECRET": SECRET, "OPMAS_AUTH__JWT__JWKS_URL": "https://issuer/jwks"}, "not several"),
        ({"JWT_SECRET": SECRET, "OPMAS_AUTH__JWT__ALGORITHM": "RS256"}, "does not go with a secret"),
        ({"OPMAS_AUTH__JWT__JWKS_FILE": "/x", "OPMAS_AUTH__JWT__ALGORITHM": "HS256"}, "does not go with a key set"),
        ({"JWT_SECRET": SECRET, "OPMAS_AUTH__JWT__ALGORITHM": "none"}, "algorithm"),
        ({"OPMAS_AUTH__JWT__JWKS_URL": "http://issuer.example/jwks"}, "https"),
        ({"OPMAS_AUTH__JWT__ISUER": "x"}, "did you mean 'OPMAS_AUTH__JWT__ISSUER'"),
        ({"OPMAS_AUTH__MODUS": "none"}, "did you mean 'OPMAS_AUTH__MODE'"),
        ({"OPMAS_AUTH__MODE": "none", "OPMAS_API__HOST": "0.0.0.0"}, "for 127.0.0.1 only"),  # noqa: S104 - refused
        ({"OPMAS_RATE_LIMIT__PER_KEY": "many"}, "per_key"),
    ],
)
def test_what_would_let_strangers_in_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(monkeypatch, **variables)

    assert words in refused.value.message
    assert SECRET not in refused.value.message


def test_an_unknown_key_below_a_section_is_suggested(tmp_path: Path) -> None:
    file = tmp_path / "api.yaml"
    file.write_text("auth:\n  jwt: {isuer: x}\n")

    with pytest.raises(SettingsInvalid, match=r"auth\.jwt\.isuer: unknown key \(did you mean 'issuer'\?\)"):
        ApiSettings.load(file)


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")

    assert JwtSettings(secret_file=tmp_path / "secret").shared_secret() == SECRET.encode()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_authentication_the_api_may_listen_on_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert load(monkeypatch, OPMAS_AUTH__MODE="none", OPMAS_API__HOST=host).auth.mode == "none"
