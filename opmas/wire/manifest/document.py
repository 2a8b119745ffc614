"""YAML text as plain values that remember where they stood.

Stricter than YAML: one document, string keys, no key twice, no tags, bounded depth and size. What the values mean is
not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

_LARGEST = 64 * 1024  # characters; real manifests have a few thousand, and what they say is shown in lists
_DEEPEST = 32  # libyaml's composer recurses on the C stack: 5,000 levels end the process
_MOST_VALUES = 20_000  # after aliases are expanded

# libyaml's parser is some ten times faster, and may be missing from a build of PyYAML.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge"))


class DocumentBroken(Exception):
    """The text is not the YAML we read: what is wrong, and where (counted from 1)."""

    def __init__(self, words: str, line: int = 1, column: int = 1) -> None:
        super().__init__(words)
        self.words, self.line, self.column = words, line, column

    @classmethod
    def at(cls, mark: Any, words: str) -> "DocumentBroken":
        """Make one for a mark of PyYAML (of either parser), which counts from 0; None when it knew no place."""
        return cls(words) if mark is None else cls(words, mark.line + 1, mark.column + 1)


@dataclass(slots=True)
class Document:
    """A mapping at the top, with the line and column of every key and value in it."""

    value: dict[str, Any]
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def position(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Tell where `path` stands, or the nearest part of it that the text has."""
        for length in range(len(path), -1, -1):
            found = (self.keys if of_key else self.values).get(path[:length])
            if found is not None:
                return found
        return 1, 1


def read_document(text: str, verbatim: Callable[[Path], bool]) -> Document:
    """Read one YAML mapping; scalars at `verbatim` paths stay as written (`1.10` is no number there)."""
    if len(text) > _LARGEST:
        raise DocumentBroken(f"the file is larger than {_LARGEST // 1024} KiB: keep data in files of their own")
    try:
        _check_depth(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _broken(error, text) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentBroken(f"a character that YAML does not allow: #x{error.character:04x}", line) from None
    if root is None:
        raise DocumentBroken("the file is empty: it needs at least a name and an entrypoint or a command")
    if not isinstance(root, yaml.MappingNode):
        raise DocumentBroken.at(root.start_mark, "must be a mapping (key: value), beginning with 'name: …'")
    return _Reader(verbatim).read(root)


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise DocumentBroken.at(event.start_mark, f"nested deeper than {_DEEPEST} levels")


def _broken(error: yaml.MarkedYAMLError, text: str) -> DocumentBroken:
    mark = error.problem_mark or error.context_mark
    words = f"cannot read YAML: {error.problem or error.context}"
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        words += " (indent with spaces, not tabs)"
    return DocumentBroken.at(mark, words)


class _Reader:
    def __init__(self, verbatim: Callable[[Path], bool]) -> None:
        self._verbatim = verbatim
        self._construct = yaml.constructor.SafeConstructor()
        self._count = 0
        self._document = Document({})

    def read(self, root: yaml.MappingNode) -> Document:
        self._document.value = self._value(root, ())
        return self._document

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise DocumentBroken.at(node.start_mark, f"more than {_MOST_VALUES:,} values: aliases multiply them")
        if len(path) > _DEEPEST:
            raise DocumentBroken.at(node.start_mark, f"nested deeper than {_DEEPEST} levels, or within itself")
        if node.tag not in _PLAIN:
            raise DocumentBroken.at(node.start_mark, f"the tag {node.tag.replace(_TAG, '!!')} is not supported")
        self._document.values[path] = node.start_mark.line + 1, node.start_mark.column + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text: str = node.value
        if node.tag == _TAG + "null":
            return None
        # A date stays as written: no field takes one.
        if node.tag in {_TAG + "str", _TAG + "timestamp", _TAG + "merge"} or self._verbatim(path):
            return text
        try:
            return self._construct.construct_object(node)
        except (ValueError, yaml.YAMLError):  # `0x_`, or 5,000 digits
            raise DocumentBroken.at(node.start_mark, f"not a number: {text[:40]!r}") from None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            key = _key(key_node)
            if key in result:
                first = self._document.keys[*path, key][0]
                raise DocumentBroken.at(
                    key_node.start_mark, f"the key {key!r} stands here twice: first in line {first}"
                )
            self._keep(result, key_node, value_node, path)
        for key_node, value_node in _merged(node):
            if _key(key_node) not in result:
                self._keep(result, key_node, value_node, path)
        return result

    def _keep(self, result: dict[str, Any], key_node: yaml.Node, value_node: yaml.Node, path: Path) -> None:
        key = _key(key_node)
        here = (*path, key)
        self._document.keys[here] = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        result[key] = self._value(value_node, here)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DocumentBroken.at(node.start_mark, "a key must be text")
    return str(node.value)  # as written: a bare `on` is a key here, not true


def _merged(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """List what `<<: *anchor` or `<<: [*a, *b]` brings in, nearest first; each mapping once, however often named."""
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    seen = {id(node)}
    sources = _merge_sources(node)
    while sources:
        source = sources.pop(0)
        if id(source) in seen:
            continue
        seen.add(id(source))
        pairs.extend(pair for pair in source.value if pair[0].tag != _TAG + "merge")
        sources[:0] = _merge_sources(source)
    return pairs


def _merge_sources(node: yaml.MappingNode) -> list[yaml.MappingNode]:
    sources: list[yaml.MappingNode] = []
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            sources.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
    for source in sources:
        if not isinstance(source, yaml.MappingNode):
            raise DocumentBroken.at(source.start_mark, "'<<' must name mappings, as in '<<: *anchor'")
    return sources
