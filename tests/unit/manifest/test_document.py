"""Text that is no manifest at all: each gets its place and a reason, and none takes the reader down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opmas.wire.errors import PackageInvalid
from opmas.wire.manifest import parse_manifest

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


def problems_of(text: str) -> str:
    """Parse; a traceback fails the test."""
    try:
        parse_manifest(text, "agent.yaml")
    except PackageInvalid as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("- a\n", "1:1: must be a mapping"),
        ("just text", "1:1: must be a mapping"),
        ("name: a\nb: [1,\n", "cannot read YAML: did not find expected node content"),
        ("name: a\n\tb: 1\n", "(indent with spaces, not tabs)"),
        ("name: a: b\n", "1:8: cannot read YAML: mapping values are not allowed in this context"),
        ("name: a\nentrypoint: b.py\nname: c\n", "3:1: the key 'name' stands here twice: first in line 1"),
        ("name: a\n---\nname: b\n", "2:1: cannot read YAML: but found another document"),
        ("name: !!python/object:os.system a\n", "1:7: the tag !!python/object:os.system is not supported"),
        ("name: a\nb: \x01\n", "a character that YAML does not allow: #x0001"),
        ("? [a]\n: b\n", "a key must be text"),
        ("name: a\nreplicas: 1" + "0" * 5000, "2:11: not a number: '1000"),
        ("b: " + "[" * 60_000, "nested deeper than 32 levels"),
        ("b: " + "{a: " * 15_000, "nested deeper than 32 levels"),
        ("b: &a [*a]\n", "nested deeper than 32 levels, or within itself"),
        (BOMB, "more than 20,000 values: aliases multiply them"),
        ("a: &a 5\nb: {<<: *a}\n", "'<<' must name mappings"),
        ("b: *missing\n", "1:4: cannot read YAML: found undefined alias"),
        ("#" + "x" * 300_000, "the file is larger than 64 KiB"),
    ],
)
def test_broken_text_is_told_with_line_and_column(text: str, words: str) -> None:
    with pytest.raises(PackageInvalid) as caught:
        parse_manifest(text, "agent.yaml")

    assert caught.value.message.startswith("agent.yaml:")
    assert words in caught.value.message
    assert caught.value.hint


def test_merges_of_merges_cost_no_more_than_their_text() -> None:
    with pytest.raises(PackageInvalid, match="unknown key"):
        parse_manifest(MERGE_BOMB, "agent.yaml")


@given(st.text(alphabet=st.sampled_from("name: entrypoi\n\t-[]{}&*<>|!%@'\"#,?\x00é1."), max_size=60))
def test_no_text_at_all_makes_anything_but_a_clear_error(text: str) -> None:
    assert problems_of(text).partition(":")[0] in {"", "agent.yaml"}


@given(
    st.sampled_from(["restart", "heartbeat", "depends_on", "environment", "command", "config", "skills", "env_file"]),
    st.recursive(
        st.sampled_from(["x", "1", "true", "~", "'a b'", "1.5", "2020-01-01"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
            | st.dictionaries(st.sampled_from(["a", "process", "schema", "id"]), inner, max_size=3).map(
                lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
            )
        ),
        max_leaves=6,
    ),
)
def test_no_value_at_all_makes_anything_but_a_clear_error(field: str, value: str) -> None:
    text = f"name: a\n{field}: {value}\nentrypoint: a.py\n"

    assert problems_of(text).partition(":")[0] in {"", "agent.yaml"}
