"""What cannot work is refused when the agent is made, not when the first message comes."""

from typing import Any

import pytest

from opmas.agent import Agent, Message, command, on, query
from opmas.agent.handlers import handlers_of
from opmas.wire.errors import InvalidRequest


@pytest.mark.parametrize("subject", ["", "a b", "a..b", ".a", "a."])
def test_a_subject_that_is_none_is_refused(subject: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot listen"):
        on(subject)


@pytest.mark.parametrize("mark", [command("drain"), command("reload"), query("health")])
def test_what_every_agent_has_cannot_be_defined(mark: Any) -> None:
    class Clash(Agent):
        @mark  # type: ignore[untyped-decorator]
        async def handler(self, params: dict[str, Any]) -> None: ...

    with pytest.raises(InvalidRequest, match="every agent has it already"):
        handlers_of(Clash())


def test_two_functions_for_one_command_are_refused() -> None:
    class Twice(Agent):
        @command("a")
        async def one(self, params: dict[str, Any]) -> None: ...

        @command("a")
        async def two(self, params: dict[str, Any]) -> None: ...

    with pytest.raises(InvalidRequest, match="two functions for the command 'a'"):
        handlers_of(Twice())


def test_a_handler_that_takes_no_argument_is_refused() -> None:
    class Deaf(Agent):
        @on("a.b")
        async def line(self) -> None: ...

    with pytest.raises(InvalidRequest, match=r"Deaf\.line .* too many positional arguments") as refused:
        handlers_of(Deaf())

    assert "called with the message" in refused.value.hint


def test_an_overridden_handler_is_taken_once_and_from_the_subclass() -> None:
    class Parent(Agent):
        @on("a.b")
        async def line(self, message: Message) -> None: ...

    class Child(Parent):
        @on("c.d")
        async def line(self, message: Message) -> None: ...

    assert [each.mark.name for each in handlers_of(Child())] == ["c.d"]


def test_a_hook_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(InvalidRequest, match="no hook 'begin'") as refused:

        @Agent().hook
        def begin() -> None: ...

    assert "start, stop, health_check" in refused.value.hint
