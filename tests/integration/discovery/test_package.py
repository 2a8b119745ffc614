"""A package on disk, sound or not: what is wrong is told with the file's name, and no code of it runs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_manager.package import load_package
from opmas.wire.errors import PackageInvalid

MANIFEST = "name: echo\nentrypoint: agent.py:Echo\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "agent.yaml").write_text(MANIFEST)
    (folder / "agent.py").write_text("raise SystemExit('an agent is never imported by the manager')\n")
    return folder


def error_of(folder: Path) -> str:
    package = load_package(folder)
    assert package.manifest is None
    assert package.error is not None
    assert package.error.hint
    return package.error.message


def test_a_sound_package_has_its_manifest_and_no_error(folder: Path) -> None:
    package = load_package(folder)

    assert package.error is None
    assert package.manifest is not None
    assert package.name == "echo"


def a_manifest(extra: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "agent.yaml").write_text(MANIFEST + extra)


def a_file(name: str, content: bytes = b"") -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def an_exec(command: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "agent.yaml").write_text(f"name: echo\ncommand: {command}\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "agent.yaml").unlink(), "echo/agent.yaml: cannot read it: No such file"),
        (a_file("agent.yaml", b"name: [\n"), "echo/agent.yaml:2:1: cannot read YAML"),
        (a_file("agent.yaml", b"name: echo\n# \xff\n"), "echo/agent.yaml:2: is not UTF-8 text"),
        (a_file("agent.yaml", b"#" * 5_000_000), "echo/agent.yaml: is larger than 4 MiB"),
        (a_manifest("replicsa: 2\n"), "echo/agent.yaml:3:1: unknown key 'replicsa' (did you mean 'replicas'?)"),
        (lambda folder: (folder / "agent.py").unlink(), "entrypoint 'agent.py' names a file that is not there: create"),
        (a_file("agent.py", b"def broken(:\n"), "echo/agent.py:1:12: cannot be compiled: invalid syntax"),
        (a_file("agent.py", b"x = 1\0\n"), "echo/agent.py"),
        (a_file("agent.py", b"(" * 5000 + b")" * 5000), "cannot be compiled: too many nested parentheses"),
        (a_file("json.py"), "echo/json.py: has the name of the module 'json', which instances import: rename it"),
        (a_file("nats/__init__.py"), "echo/nats: has the name of the module 'nats'"),
        (a_manifest("working_dir: gone\n"), "working_dir 'gone' is no folder"),
        (a_manifest("env_file: gone.env\n"), "echo/gone.env: cannot read it: No such file"),
        (an_exec("./gone.sh"), "command './gone.sh' is not there"),
        (an_exec("./agent.py"), "command './agent.py' may not be executed: chmod +x"),
        (lambda folder: os.remove(folder / "agent.yaml") or os.mkfifo(folder / "agent.yaml"), "is not a file"),
    ],
)
def test_a_spoilt_package_says_what_is_wrong_and_where(
    folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(folder)

    assert words in error_of(folder)


def test_an_entrypoint_outside_the_package_is_refused_even_through_a_link(folder: Path) -> None:
    (folder.parent / "other.py").touch()
    (folder / "link.py").symlink_to(folder.parent / "other.py")

    for target in ("../other.py", str(folder.parent / "other.py"), "link.py"):
        (folder / "agent.yaml").write_text(f"name: echo\nentrypoint: {target}\n")
        assert f"entrypoint {target!r} leaves the package" in error_of(folder)


def test_a_file_named_like_a_preloaded_module_is_refused(folder: Path) -> None:
    a_file("numpy.py")(folder)
    assert load_package(folder).error is None

    a_manifest("preload: [numpy.linalg]\n")(folder)
    assert "numpy.py: has the name of the module 'numpy'" in error_of(folder)


def test_every_problem_is_told_at_once(folder: Path) -> None:
    a_file("json.py")(folder)
    a_file(".env", b"NOT A VARIABLE\n")(folder)
    a_manifest("working_dir: gone\nenv_file: .env\n")(folder)

    assert len(error_of(folder).splitlines()) == 3


def test_a_broken_package_keeps_the_name_it_seems_to_have(folder: Path) -> None:
    (folder / "agent.yaml").write_text("name: parrot\nreplicas: [\n")

    assert load_package(folder).name == "parrot"


def test_the_environment_is_read_afresh_with_the_manifest_above_the_files(folder: Path) -> None:
    a_manifest("env_file: [a.env, b.env]\nenvironment: {TOP: manifest, KEY: }\n")(folder)
    a_file("a.env", b"TOP=a\nLOW=a\nMID=a\n")(folder)
    a_file("b.env", b"MID=b\n")(folder)
    package = load_package(folder)

    assert package.environment({"KEY": "host", "OTHER": "host"}) == {
        "TOP": "manifest", "LOW": "a", "MID": "b", "KEY": "host",
    }  # fmt: skip

    a_file("b.env", b"MID=new\n")(folder)
    assert package.environment({})["MID"] == "new"

    (folder / "b.env").unlink()
    with pytest.raises(PackageInvalid, match=r"b\.env: cannot read it"):
        package.environment({})
