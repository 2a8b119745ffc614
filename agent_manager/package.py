"""A package on disk: its manifest, and whether the files that the manifest names are there and sound.

Nothing of a package is imported here; code runs only in instances.
"""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from opmas.wire.errors import ErrorBody, OpmasError, PackageInvalid
from opmas.wire.ids import is_agent_id
from opmas.wire.manifest import Manifest, Runtime, merge_environment, parse_env_file, parse_manifest

MANIFEST = "agent.yaml"
_LARGEST_FILE = 4 * 1024 * 1024  # bytes; of what is read whole: manifest, env files, the entrypoint
_NAME_LINE = re.compile(r"^name:\s*['\"]?([a-z0-9][a-z0-9_-]*)['\"]?\s*(?:#.*)?$", re.MULTILINE)

# Modules that the shared runtime has loaded before an agent's own code: a file of that name would be hidden by them in
# a forked instance and hide them in an exec'd one.
_LOADED = frozenset(
    {"agent_manager", "agno", "jsonschema", "management_api", "nats", "nkeys", "opmas", "pydantic", "pydantic_core"}
    | {"setproctitle", "structlog", "typing_extensions", "yaml"}
)


@dataclass(frozen=True, slots=True)
class Package:
    """A folder under `packages/`. `manifest` is there when the package is usable, else `error` says what is wrong.

    `name` is the agent's id; of a broken package, what its manifest seems to say, else the folder's name. `folder` is
    what tells packages apart. `duplicate_of` is the folder of the package that had the name first. `files` is what
    `fingerprint` saw of them, by their paths in the folder.
    """

    folder: Path
    name: str
    digest: str
    manifest: Manifest | None = None
    error: ErrorBody | None = None
    duplicate_of: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def files_changed_since(self, before: "Package") -> set[str]:
        """The paths of the files that have come, changed or gone."""
        return {path for path, _ in self.files.items() ^ before.files.items()}

    def environment(self, host: Mapping[str, str]) -> dict[str, str]:
        """Read the env files and lay the manifest's environment over them; raise PackageInvalid when one is gone.

        Blocking; to be called at every start, as the files may have changed.
        """
        if self.manifest is None:
            return {}
        files = [_read_env_file(self.folder / name) for name in self.manifest.env_file]
        return merge_environment([*files, self.manifest.environment], host)


def load_package(folder: Path, digest: str = "") -> Package:
    """Read and check the package in `folder`; what is wrong stands in its `error`. Blocking."""
    path = folder / MANIFEST
    name = folder.name
    try:
        text = _read_text(path)
        found = _NAME_LINE.search(text)
        name = found[1] if found and is_agent_id(found[1]) else name
        manifest = parse_manifest(text, str(path))
    except PackageInvalid as error:
        return Package(folder, name, digest, error=error.body())
    package = Package(folder, manifest.name, digest, manifest)
    problems = list(_problems(folder, manifest))
    if problems:
        invalid = PackageInvalid("\n".join(problems), "Mend the files named; `opmas validate PATH` reads them again.")
        return replace(package, manifest=None, error=invalid.body())
    return package


def _problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    checks: tuple[Callable[[Path, Manifest], Iterator[str]], ...] = (
        _entrypoint_problems,
        _command_problems,
        _shadowing_files,
        _folder_problems,
        _env_file_problems,
        _dependency_problems,
    )
    for check in checks:
        try:
            yield from check(folder, manifest)
        except OpmasError as error:
            yield error.message
        except OSError as error:
            yield f"{error.filename or folder}: cannot read it: {error.strerror}"


def _entrypoint_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    if manifest.entrypoint is None:
        return
    target = manifest.entrypoint.partition(":")[0]
    if not target.endswith(".py"):  # a module; it may be installed anywhere the instance will find it
        return
    path = folder / target
    if not path.resolve().is_relative_to(folder.resolve()):
        yield f"{folder / MANIFEST}: entrypoint {target!r} leaves the package: the file must lie inside {folder}"
    elif not path.is_file():
        yield f"{folder / MANIFEST}: entrypoint {target!r} names a file that is not there: create {path}"
    else:
        yield from _syntax_problems(path)


def _syntax_problems(path: Path) -> Iterator[str]:
    try:
        compile(_read(path), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        yield f"{path}:{error.lineno or 1}:{error.offset or 1}: cannot be compiled: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nested without end
        yield f"{path}: cannot be compiled: {error or type(error).__name__}"


def _command_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    program = manifest.command[0] if manifest.command else ""
    if "/" not in program:  # looked up in the instance's PATH when it starts
        return
    path = folder / manifest.working_dir / program
    if not path.is_file():
        yield f"{folder / MANIFEST}: command {program!r} is not there: no file {path}"
    elif not os.access(path, os.X_OK):
        yield f"{folder / MANIFEST}: command {program!r} may not be executed: chmod +x {path}"


def _shadowing_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    if manifest.runtime is Runtime.EXEC:
        return
    preloaded = {module.partition(":")[0].partition(".")[0] for module in manifest.preload}
    taken = sys.stdlib_module_names | _LOADED | preloaded
    for path in sorted((*folder.glob("*.py"), *folder.glob("*/__init__.py"))):
        own = path if path.name != "__init__.py" else path.parent
        if own.stem in taken:
            yield f"{own}: has the name of the module {own.stem!r}, which instances import: rename it"


def _folder_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    if not (folder / manifest.working_dir).is_dir():
        yield f"{folder / MANIFEST}: working_dir {manifest.working_dir!r} is no folder: create it or correct the path"


def _env_file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name in manifest.env_file:
        try:
            _read_env_file(folder / name)
        except PackageInvalid as error:
            yield error.message


def _dependency_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    name = manifest.dependencies.file
    if name is None:
        return
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        yield f"{folder / MANIFEST}: dependencies {name!r} leaves the package: the file must lie inside {folder}"
    elif not path.is_file():
        yield f"{folder / MANIFEST}: dependencies {name!r} names a file that is not there: create {path}"
    else:
        _read_text(path)


def _read_env_file(path: Path) -> dict[str, str | None]:
    """Read one env file; None stands for "as the host has it". Raise PackageInvalid naming file and line. Blocking."""
    try:
        return parse_env_file(_read_text(path), str(path))
    except ValueError as error:
        raise PackageInvalid(str(error), "Correct the env file.") from None


def _read_text(path: Path) -> str:
    raw = _read(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PackageInvalid(f"{path}:{line}: is not UTF-8 text", "Save the file as UTF-8.") from None


def _read(path: Path) -> bytes:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a FIFO would wait for ever
            raise PackageInvalid(f"{path}: is not a file", "Put a plain file there.")
        if facts.st_size > _LARGEST_FILE:
            raise PackageInvalid(f"{path}: is larger than 4 MiB", "Keep data in files of their own.")
        return path.read_bytes()
    except OSError as error:
        raise PackageInvalid(f"{path}: cannot read it: {error.strerror}", "Create it, or correct the path.") from None
