"""Verbs for authors of packages: `init`, `validate`, `schema`."""

import os
import shutil
from importlib import resources
from pathlib import Path
from string import Template
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from opmas.cli import paper
from opmas.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agent_manager.package import Package

_FILES = ("agent.yaml", "agent.py", "README.md", "test_agent.py")


def init(name: str, /, *, json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """Write a new package to start from, in OPMAS_PACKAGES (./packages).

    Args:
        name: of the package and its agent: lower-case letters, digits, - and _
        json: one JSON document: {folder, files}
    """
    from opmas.wire.ids import AGENT_ID_PATTERN, RESERVED_IDS, is_agent_id  # noqa: PLC0415 - costs pydantic

    if not is_agent_id(name):
        why = "the name is reserved" if name in RESERVED_IDS else f"a name matches {AGENT_ID_PATTERN}"
        raise Failure(f"cannot make a package named '{name}': {why}", "choose another, such as my-agent", "usage")
    folder = Path(os.environ.get("OPMAS_PACKAGES") or "packages") / name
    if folder.exists():
        raise Failure(f"cannot make {folder}: it exists already", "choose another name", "conflict")
    try:
        _write(folder, {"name": name, "title": _class_name(name), "module": name.replace("-", "_")})
    except OSError as error:
        raise Failure(f"cannot write {folder}: {error.strerror}", f"make {folder.parent} writable") from error
    if json:
        paper.document({"folder": str(folder), "files": _FILES})
        return
    paper.line(f"{folder}: " + ", ".join(_FILES))
    asked = f"`opmas run {name} Ada` asks it"
    paper.note(f"check it with `opmas validate {folder}`; a running `opmas up` starts it by itself, and {asked}")


def _write(folder: Path, values: dict[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written under a name that discovery skips, then shown whole: a running manager would start a half-written package.
    draft = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for file in _FILES:
            text = (resources.files("opmas.cli") / "template" / f"{file}.txt").read_text(encoding="utf-8")
            (draft / file).write_text(Template(text).substitute(values), encoding="utf-8")
        draft.chmod(0o755)
        draft.rename(folder)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _class_name(name: str) -> str:
    """Make `my-bot` into `MyBotAgent`, which is neither a keyword nor one of the SDK's own names."""
    words = "".join(part.capitalize() for part in name.replace("_", "-").split("-"))
    return f"Agent{words}" if words[0].isdigit() else f"{words.removesuffix('Agent')}Agent"


def validate(*paths: Path, json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Check packages without running them; exits with 1 if one is broken.

    Args:
        paths: folders of packages, or their agent.yaml; without any, all in OPMAS_PACKAGES (./packages)
        json: one JSON document: {packages: [{folder, name, error: {code, message, hint} or null}, …]}
    """
    from agent_manager.package import load_package  # noqa: PLC0415 - costs pydantic

    found = [load_package(folder) for folder in _folders(paths)]
    if json:
        paper.document({"packages": [_report(package) for package in found]})
    for package in found:
        if package.error:
            paper.note(f"{package.error.message}\n  hint: {package.error.hint}")
        elif not json:
            paper.line(f"{package.folder}: ok")
    return Exit.FAILED if any(package.error for package in found) else Exit.OK


def _report(package: "Package") -> dict[str, object]:
    error = package.error.model_dump() if package.error else None
    return {"folder": str(package.folder), "name": package.name, "error": error}


def _folders(paths: tuple[Path, ...]) -> list[Path]:
    if not paths:
        root = Path(os.environ.get("OPMAS_PACKAGES") or "packages")
        paths = tuple(sorted(manifest.parent for manifest in root.glob("[!_.]*/agent.yaml")))
        if not paths:
            raise Failure(f"cannot find a package in {root}", "`opmas init NAME` writes one", "not_found")
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise Failure(f"cannot validate {missing[0]}: there is no such file or folder", code="not_found")
    return [path.parent if path.name == "agent.yaml" else path for path in paths]


def schema(what: Literal["agent", "command", "query", "response", "status", "metrics"] = "agent", /) -> None:
    """Print a JSON Schema.

    Args:
        what: agent (agent.yaml, for your editor), or a message on NATS
    """
    if what == "agent":
        from opmas.wire.manifest import manifest_schema  # noqa: PLC0415 - costs pydantic

        paper.document(manifest_schema())
        return
    from opmas.wire import messages  # noqa: PLC0415 - as above

    models: dict[str, type[BaseModel]] = {
        "command": messages.Command,
        "query": messages.Query,
        "response": messages.Response,
        "status": messages.StatusReport,
        "metrics": messages.MetricsReport,
    }
    paper.document(models[what].model_json_schema())
