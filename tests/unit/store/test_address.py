"""What is a usable database, said before anything is touched."""

from pathlib import Path

import pytest

from agent_manager.store import Store
from opmas.database.migrate import require_version
from opmas.wire.errors import Conflict, DatabaseUnavailable, InvalidRequest


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "not a url", "sqlite://", "sqlite:///:memory:", "postgresql://h:x/"]
)
def test_an_unusable_url_is_refused_with_the_setting_to_change_and_without_its_password(url: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot use the database URL") as caught:
        Store.open(url)

    assert "OPMAS_DATABASE__URL" in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_is_understood(scheme: str) -> None:
    Store.open(f"{scheme}://u:p@h/d?sslmode=require")


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseUnavailable, match="cannot open the database"):
        Store.open(f"sqlite:///{tmp_path}/file/opmas.db")


@pytest.mark.parametrize(("server", "version"), [("sqlite", (3, 34, 1)), ("postgresql", (12, 22)), ("postgresql", ())])
def test_a_server_too_old_is_refused_by_name(server: str, version: tuple[int, ...]) -> None:
    with pytest.raises(Conflict, match="is too old"):
        require_version(server, version)


@pytest.mark.parametrize(
    ("server", "version"), [("sqlite", (3, 35, 0)), ("postgresql", (13, 0)), ("postgresql", (18, "beta1"))]
)
def test_a_server_new_enough_is_taken(server: str, version: tuple[int | str, ...]) -> None:
    require_version(server, version)
