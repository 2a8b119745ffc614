from pathlib import Path

import pytest

from agent_manager.pip_settings import has_no_index, pip_options, uv_environment


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\nfind_links =\n  /wheels\n  /more\n"
        "[install]\nno-index = yes\n"
    )
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}


def test_what_pip_was_told_in_files_and_variables_is_said_to_uv(environ: dict[str, str]) -> None:
    options = pip_options(environ | {"PIP_EXTRA_INDEX_URL": "https://two.example/simple"})

    said = uv_environment({}, options)
    assert said["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert said["UV_EXTRA_INDEX_URL"] == "https://two.example/simple"
    assert said["UV_FIND_LINKS"] == "/wheels,/more"
    assert has_no_index(options)


def test_a_variable_stands_above_the_files_and_uvs_own_above_both(environ: dict[str, str]) -> None:
    options = pip_options(environ | {"PIP_INDEX_URL": "https://three.example/simple", "PIP_NO_INDEX": "0"})

    assert uv_environment({}, options)["UV_DEFAULT_INDEX"] == "https://three.example/simple"
    assert "UV_DEFAULT_INDEX" not in uv_environment({"UV_INDEX_URL": "https://four.example/simple"}, options)
    assert not has_no_index(options)


def test_a_file_that_pip_cannot_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"index-url = \xff\n[")

    assert "index-url" not in pip_options({"HOME": "/nonexistent", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
