"""Ids as people give them: whole, or the beginning of one."""

import pytest

from opmas.cli.failure import Exit, Failure
from opmas.cli.lookup import looked_up

ONE, OTHER = "01a1fb49da9a77f443a85ef80d3ae007", "01a1fb49d74d78f11b6446f81c3a885b"


def find(given: str) -> str:
    def call(whole: str) -> str:
        if whole not in {ONE, OTHER}:
            raise Failure("there is no such run", code="run_not_found")
        return whole

    return looked_up("show", "run", given, call, lambda: [ONE, OTHER])


@pytest.mark.parametrize("given", [ONE, ONE[:12], f"{ONE[:20]}…"])
def test_an_id_is_found_by_its_beginning(given: str) -> None:
    assert find(given) == ONE


@pytest.mark.parametrize(
    ("given", "exit_", "said", "hint"),
    [
        (ONE[:8], Exit.USAGE, "2 runs begin so", f"give more of one: {ONE}, {OTHER}"),
        (ONE[:-1] + "8", Exit.NOT_FOUND, "no such run", f"did you mean '{ONE}'?"),
        ("nope", Exit.NOT_FOUND, "no such run", "`opmas runs ls`"),
    ],
)
def test_one_that_names_no_run_or_several_is_told_apart(given: str, exit_: Exit, said: str, hint: str) -> None:
    with pytest.raises(Failure) as caught:
        find(given)

    assert caught.value.exit is exit_
    assert said in str(caught.value)
    assert hint in caught.value.hint
