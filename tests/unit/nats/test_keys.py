import json
from pathlib import Path

import pytest

from agent_manager.nats import Role, keys
from opmas.wire.errors import Conflict


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = keys.load_or_create(tmp_path)

    assert keys.load_or_create(tmp_path).operator.seed == first.operator.seed == keys.load(tmp_path).operator.seed
    assert keys.seeds_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert keys.seeds_path(tmp_path).parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in keys.seeds_path(tmp_path).parent.iterdir()] == ["seeds.json"]


def test_a_role_added_later_gets_its_key_without_touching_the_others(tmp_path: Path) -> None:
    first = keys.load_or_create(tmp_path)
    path = keys.seeds_path(tmp_path)
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "role:api"}))

    second = keys.load_or_create(tmp_path)

    assert second.account.seed == first.account.seed
    assert second.signers[Role.API].seed != first.signers[Role.API].seed
    assert second.role_of(second.signers[Role.API].public) is Role.API
    assert second.role_of(first.signers[Role.API].public) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"operator": 1}', '{"operator": "SOXX"}'])
def test_damaged_keys_are_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    keys.load_or_create(tmp_path)
    keys.seeds_path(tmp_path).write_text(text)

    with pytest.raises(Conflict, match=r"cannot read the NATS keys .*seeds.json") as refused:
        keys.load(tmp_path)

    assert "restore the file" in refused.value.hint


def test_missing_keys_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="cannot find the NATS keys"):
        keys.load(tmp_path)
