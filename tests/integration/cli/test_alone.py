"""The verbs without a running OPMAS: the author's, the quick ones, and what the others say then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shell, Typed, shell

# What each costs at import: more than `opmas --version` or `opmas ls` may take as a whole.
HEAVY = {"pydantic", "httpx2", "rich.console", "fastapi", "sqlalchemy", "nats", "agent_manager", "management_api"}


def loaded_by(*words: str, env: dict[str, str]) -> set[str]:
    """Tell which modules a command has imported when it ends."""
    code = "import sys, opmas.__main__ as m\ntry: m.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    return set(ended.stderr.split())


def test_the_version_is_told_before_a_parser_is_imported(alone: Shell) -> None:
    assert alone("--version").stdout.startswith("opmas 0.")
    assert not loaded_by("--version", env=alone.env) & (HEAVY | {"cyclopts", "asyncio", "json"})


def test_ls_imports_none_of_the_servers_libraries(alone: Shell) -> None:
    assert "opmas.cli.agents" in loaded_by("ls", env=alone.env)
    assert not loaded_by("ls", env=alone.env) & HEAVY


@pytest.mark.parametrize("verb", ["ls", "events", "packages", "logs"])
def test_an_absent_api_is_unreachable_and_the_way_to_start_it_is_told(alone: Shell, typed: Typed, verb: str) -> None:
    ended = typed(alone, verb)

    assert ended.returncode == 4
    assert "cannot reach the management API at http://127.0.0.1:" in ended.stderr
    assert "opmas up" in ended.stderr


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://x:port", "http://"])
def test_an_address_that_is_none_is_a_usage_error(alone: Shell, typed: Typed, url: str) -> None:
    assert typed(alone, "ls", OPMAS_URL=url).returncode == 2


def test_status_and_down_say_that_nothing_runs(alone: Shell, typed: Typed) -> None:
    for verb in ("status", "down"):
        ended = typed(alone, verb)

        assert ended.returncode == 3
        assert "nothing runs" in ended.stderr


def test_no_token_is_made_up(alone: Shell, typed: Typed) -> None:
    assert typed(alone, "token").returncode == typed(alone, "env").returncode == 3


def test_help_lists_every_verb(alone: Shell, typed: Typed) -> None:
    shown = typed(alone, "--help")

    assert shown.returncode == 0
    verbs = (
        "up down doctor top ls describe why start enable reload logs audit register delete sync config init validate"
    )
    for verb in verbs.split():
        assert f" {verb} " in shown.stdout


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_knows_the_verbs(alone: Shell, typed: Typed, kind: str) -> None:
    script = typed(alone, "completion", kind).stdout

    for verb in ("describe", "register", "doctor", "unset"):
        assert verb in script


def test_bash_completes_verbs_and_flags(alone: Shell, typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "opmas.bash").write_text(typed(alone, "completion", "bash").stdout)
    script = "source $0; COMP_WORDS=(opmas $1 $2); COMP_CWORD=$3; _opmas; echo ${COMPREPLY[@]}"

    def completed(*words: str) -> list[str]:
        ended = subprocess.run(
            ["bash", "-c", script, str(tmp_path / "opmas.bash"), *words],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return ended.stdout.split()

    assert {"start", "status"} <= set(completed("sta", "", "1"))
    assert "--label" in completed("start", "--", "2")


# --- authors --------------------------------------------------------------------------------------------------------


def test_what_init_writes_is_valid_and_passes_its_own_test(alone: Shell, typed: Typed, tmp_path: Path) -> None:
    for name in ("my-bot", "0", "none", "agent"):
        assert typed(alone, "init", name).returncode == 0

    packages = tmp_path / "packages"
    assert sorted(path.name for path in packages.iterdir()) == ["0", "agent", "my-bot", "none"]
    assert typed(alone, "validate").returncode == 0
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", Path("pyproject.toml").absolute()]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", *options, packages / "my-bot", packages / "0"],
        env=alone.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout


def test_init_overwrites_nothing_and_refuses_names_that_no_agent_may_have(
    alone: Shell, typed: Typed, tmp_path: Path
) -> None:
    assert typed(alone, "init", "mine").returncode == 0
    (tmp_path / "packages" / "mine" / "agent.py").write_text("my work")

    assert typed(alone, "init", "mine").returncode == 6
    assert (tmp_path / "packages" / "mine" / "agent.py").read_text() == "my work"
    for name in ("Mine", "../mine", "manager", ""):
        assert typed(alone, "init", name).returncode == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: x\nentrypont: agent.py\n", "did you mean 'entrypoint'"),
        ("name: x\nentrypoint: nothing.py:agent\n", "nothing.py"),
        ("name: [", "agent.yaml:"),
        ("name: x\ncommand: [./x]\nreplicas: two\n", "replicas"),
    ],
)
def test_validate_names_what_is_wrong(alone: Shell, typed: Typed, tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "agent.yaml").write_text(text)
    typed(alone, "init", "good")

    ended = typed(
        alone, "validate", str(tmp_path / "bad"), str(tmp_path / "packages" / "good" / "agent.yaml"), "--json"
    )

    assert ended.returncode == 1
    assert word in ended.stderr
    assert "Traceback" not in ended.stderr
    bad, good = json.loads(ended.stdout)["packages"]
    assert bad["error"]["code"] == "package_invalid"
    assert good["error"] is None


def test_validate_of_nothing_is_not_found(alone: Shell, typed: Typed, tmp_path: Path) -> None:
    assert typed(alone, "validate").returncode == 3
    assert typed(alone, "validate", str(tmp_path / "nowhere")).returncode == 3


@pytest.mark.parametrize("what", ["agent", "command", "query", "response", "status", "metrics"])
def test_a_schema_is_one_json_document(alone: Shell, typed: Typed, what: str) -> None:
    assert json.loads(typed(alone, "schema", what).stdout)["properties"]


def test_a_home_that_is_somebody_elses_file_is_no_reason_to_crash(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "up.json").write_text("}{")
    (tmp_path / "home" / "admin.token").write_bytes(b"\xff")

    ended = typed(shell(tmp_path, OPMAS_API__PORT="1"), "ls")

    assert ended.returncode == 4
