"""What the client library shows: its names, and the two faces that must be one."""

import inspect

import pytest

import opmas.client
from opmas.client import BlockingClient, OpmasClient
from opmas.wire.errors import InvalidRequest


def public(kind: type) -> set[str]:
    return {name for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_every_public_name_is_there_and_sorted() -> None:
    assert opmas.client.__all__ == sorted(opmas.client.__all__)
    assert all(hasattr(opmas.client, name) for name in opmas.client.__all__)


def test_the_face_without_await_has_every_call_with_its_text_and_arguments() -> None:
    assert public(BlockingClient) == public(OpmasClient)
    for name in public(OpmasClient) - {"close"}:
        one, other = getattr(OpmasClient, name), getattr(BlockingClient, name)
        assert one.__doc__ == other.__doc__
        assert inspect.signature(one) == inspect.signature(other)


def test_every_call_takes_the_options_of_a_call() -> None:
    for name in public(OpmasClient) - {"close"}:
        kinds = {parameter.kind for parameter in inspect.signature(getattr(OpmasClient, name)).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD in kinds, name


async def test_neither_token_nor_password_is_in_what_a_client_says_of_itself() -> None:
    async with OpmasClient("http://me:hidden@127.0.0.1:1", "secret-token") as client:
        assert "secret" not in repr(client)
        assert "hidden" not in repr(client)
        with pytest.raises(InvalidRequest) as caught:
            await client.get_run("echo", "1", token="secret\ntoken")
        assert "secret" not in str(caught.value)
