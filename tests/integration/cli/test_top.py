"""`opmas top` without a terminal: textual's pilot presses the keys, a whole OPMAS answers."""

import asyncio
import os
from collections.abc import Callable

import pytest
from textual.widgets import DataTable, Log

from opmas.cli.screen import FleetScreen, LogScreen
from tests.integration.cli.conftest import Shell, Typed

_PATIENCE_S = 30.0


@pytest.fixture
def here(opmas: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPMAS_", "NATS_"))]:
        monkeypatch.delenv(name)
    for name, value in opmas.env.items():
        monkeypatch.setenv(name, value)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not true():  # noqa: ASYNC110 - what happens, happens in other processes
            await asyncio.sleep(0.05)


def shown(app: FleetScreen, agent: str, column: str) -> str:
    table = app.query_one(DataTable)
    return str(table.get_cell(agent, column)) if agent in table.rows else ""


def order(app: FleetScreen) -> list[str]:
    table = app.query_one(DataTable)
    return [str(table.get_row_at(number)[0]) for number in range(table.row_count)]


@pytest.mark.usefixtures("here")
async def test_top_keeps_its_cursor_while_it_commands_sorts_and_shows_lines(opmas: Shell, typed: Typed) -> None:
    await asyncio.to_thread(opmas, "stop", "talker")
    app = FleetScreen()
    async with app.run_test(size=(160, 30)) as pilot:
        await until(lambda: shown(app, "talker", "STATUS") == "stopped")
        app.query_one(DataTable).move_cursor(row=order(app).index("talker"))

        await pilot.press("s")
        await until(lambda: shown(app, "talker", "STATUS") == "running")
        assert app.chosen == "talker"

        for _ in range(6):  # AGENT, STATUS, READY, RESTARTS, UPTIME, CPU, MEMORY
            await pilot.press("o")
        assert app.ordered_by == "MEMORY"
        assert order(app)[0] in {"echo", "greeter"}  # an interpreter each, talker is a shell
        assert app.chosen == "talker"

        await pilot.press("l")
        await until(lambda: isinstance(app.screen, LogScreen))
        await until(lambda: any("said" in line for line in app.screen.query_one(Log).lines))
        await pilot.press("escape")
        assert not isinstance(app.screen, LogScreen)

        await pilot.press("x")
        await until(lambda: shown(app, "talker", "STATUS") == "stopped")
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.usefixtures("here")
async def test_top_says_that_nobody_answers_and_keeps_what_it_saw(
    opmas: Shell, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    app = FleetScreen()
    async with app.run_test(size=(100, 30)):
        await until(lambda: shown(app, "greeter", "STATUS") == "running")

        monkeypatch.setenv("OPMAS_URL", f"http://127.0.0.1:{free_port()}")
        await until(lambda: "cannot reach" in app.sub_title)

        assert shown(app, "greeter", "STATUS") == "running"


def test_top_outside_a_terminal_is_a_usage_error(opmas: Shell) -> None:
    ended = opmas("top")

    assert ended.returncode == 2
    assert "opmas ls" in ended.stderr
