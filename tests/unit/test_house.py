"""The rules of the house that no linter checks: sizes, names, what is reached, where subjects are spelled.

Line lengths, annotations, docstrings, sorted `__all__` and complexity are ruff's and mypy's; the floors are
import-linter's.
"""

import ast
import re
import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = ("opmas", "agent_manager", "management_api")
ENTRY_POINTS = (
    "opmas.__main__",
    "opmas.agent",
    "opmas.agent.__main__",
    "opmas.agent.testing",
    "opmas.client",
    "agent_manager.__main__",
    "agent_manager.probe",
    "agent_manager.process.template",
    "management_api.__main__",
)
NAMES_OF_NOTHING = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc"}

# `agent.…` and `run.…` are subjects unless they are the files of a package.
SUBJECT = re.compile(r"(agent|run)\.(?!py\b|yaml\b)|opmas\.identified\.")
# Permissions are patterns over subjects, with the server's own templates in them.
SPELLS_SUBJECTS = {"opmas/wire/subjects.py", "agent_manager/nats/roles.py"}

JUSTIFIED = re.compile(r"# noqa: BLE001 [-#] *\w")


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def none_of(offenders: Iterable[str]) -> None:
    """Fail with the list of what breaks the rule, if anything does."""
    listed = "\n".join(offenders)
    assert not listed, listed


def place(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{place(path, node)} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_is_longer_than_500_lines_and_half_have_at_most_150() -> None:
    long = {place(path): lines_of(path) for path in sources(*PROGRAM, "migrations", "tests", "benchmarks", "packages")}

    none_of(f"{name}: {length} lines" for name, length in long.items() if length > 500)
    assert statistics.median(lines_of(path) for path in sources(*PROGRAM)) <= 150


def test_no_function_is_longer_than_60_lines_and_half_have_at_most_10() -> None:
    lengths = dict(function for path in sources(*PROGRAM) for function in functions(path))

    none_of(f"{name}: {length} lines" for name, length in lengths.items() if length > 60)
    assert statistics.median(lengths.values()) <= 10


def test_every_module_is_named_for_what_it_holds() -> None:
    parts = {part for path in sources(*PROGRAM) for part in path.relative_to(ROOT).with_suffix("").parts}

    none_of(parts & NAMES_OF_NOTHING)


def test_every_module_opens_with_one_sentence() -> None:
    openings = {place(path): (ast.get_docstring(tree(path)) or "").split("\n\n")[0] for path in sources(*PROGRAM)}

    none_of(name for name, opening in openings.items() if not opening.endswith((".", ":")))


def test_every_module_is_reached_from_an_entry_point() -> None:
    modules = {module_name(path): path for path in sources(*PROGRAM)}
    reached: set[str] = set()
    ahead = [*ENTRY_POINTS, *(name for path in sources("migrations") for name in named_in(path))]
    while ahead:
        name = ahead.pop()
        if name in modules and name not in reached:
            reached.add(name)
            ahead += [*named_in(modules[name]), *parents(name)]

    none_of(sorted(modules.keys() - reached))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parents(name: str) -> list[str]:
    steps = name.split(".")
    return [".".join(steps[:count]) for count in range(1, len(steps))]


def named_in(path: Path) -> Iterator[str]:
    """List what a module imports, also inside functions, and what it names in text to be imported late.

    That is `package.module` or `package.module:function`, or `module:function` of a neighbour.
    """
    neighbourhood = module_name(path.parent / "__init__.py")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, colon, _ = node.value.partition(":")
            yield module if module.startswith(PROGRAM) or not colon else f"{neighbourhood}.{module}"


def test_subjects_are_spelled_in_one_module() -> None:
    none_of(
        f"{place(path, node)} {node.value!r}"
        for path in sources(*PROGRAM)
        if str(path.relative_to(ROOT)) not in SPELLS_SUBJECTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SUBJECT.match(node.value)
    )


def test_what_catches_everything_logs_it_or_raises_it_again() -> None:
    none_of(
        place(path, node)
        for path in sources(*PROGRAM)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and catches_everything(node)
        and not speaks(node)
        and not is_justified(path, node)
    )


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in caught
    )


def speaks(handler: ast.ExceptHandler) -> bool:
    return any(
        isinstance(node, ast.Raise) or (isinstance(node, ast.Attribute) and node.attr == "exception")
        for node in ast.walk(handler)
    )


def is_justified(path: Path, handler: ast.ExceptHandler) -> bool:
    """Say whether the line tells why: another way to answer, such as the future that a caller waits on."""
    return JUSTIFIED.search(path.read_text(encoding="utf-8").splitlines()[handler.lineno - 1]) is not None
