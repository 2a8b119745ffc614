"""The full screen of `opmas top`: a table that keeps its cursor while it is renewed, and a window for log lines.

What the API does not answer is said in the title; what was seen last stays.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header, Log

from opmas.cli import paper
from opmas.cli.agents import HEAD, row
from opmas.cli.connection import Document, agent_path, get
from opmas.cli.control import send
from opmas.cli.failure import Failure

_EVERY_S = 1.0
# Shorter than what `opmas ls` would wait: the next look comes in a second, and quitting waits for this one.
_PATIENCE_S = 3.0
_LINES = 500

# By what each column sorts: what it shows is text.
_WEIGHTS: dict[str, Callable[[Document], Any]] = {
    "AGENT": lambda agent: agent["id"],
    "STATUS": lambda agent: agent["status"],
    "READY": lambda agent: -sum(instance["status"] == "running" for instance in agent["instances"]),
    "RESTARTS": lambda agent: -sum(instance["restarts"] for instance in agent["instances"]),
    "UPTIME": lambda agent: -_largest(agent, "uptime_s"),
    "CPU": lambda agent: -sum(instance.get("cpu_percent") or 0.0 for instance in agent["instances"]),
    "MEMORY": lambda agent: -sum(instance.get("memory_bytes") or 0 for instance in agent["instances"]),
    "PACKAGE": lambda agent: agent["package"],
    "WHY": lambda agent: not agent.get("reason"),
}


def _largest(agent: Document, figure: str) -> float:
    return max((instance.get(figure) or 0.0 for instance in agent["instances"]), default=0.0)


class FleetScreen(App[None]):
    """All agents, one a row."""

    TITLE = "opmas"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "command('start')", "Start"),
        Binding("x", "command('stop')", "Stop"),
        Binding("r", "command('restart')", "Restart"),
        Binding("l", "logs", "Logs"),
        Binding("o", "order", "Sort by next column"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.ordered_by = "AGENT"
        self._agents: dict[str, Document] = {}

    def compose(self) -> ComposeResult:
        """Lay out title, table and keys."""
        yield Header()
        yield DataTable[str](cursor_type="row", zebra_stripes=True)
        yield Footer()

    async def on_mount(self) -> None:
        """Begin to look."""
        for name in HEAD:
            self._table.add_column(name, key=name)
        self.set_interval(_EVERY_S, self._look_again)
        self._look_again()

    @property
    def _table(self) -> DataTable[str]:
        return self.query_one(DataTable)

    def _look_again(self) -> None:
        if not any(worker.name == "look" and worker.is_running for worker in self.workers):
            self.run_worker(self._look(), name="look")

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(get, "/api/v1/agents", None, _PATIENCE_S)
        except Failure as failure:
            self.sub_title = failure.message
            return
        self._agents = {agent["id"]: agent for agent in found["agents"]}
        running = sum(agent["status"] == "running" for agent in self._agents.values())
        self.sub_title = f"{running} of {len(self._agents)} agents run"
        self._show()

    def _show(self) -> None:
        shown = {str(key.value) for key in self._table.rows}
        for gone in shown - self._agents.keys():
            self._table.remove_row(gone)
        for agent_id, agent in self._agents.items():
            cells = [paper.plain("-" if cell in {None, ""} else cell) for cell in row(agent)]
            if agent_id not in shown:
                self._table.add_row(*cells, key=agent_id)
                continue
            for name, cell in zip(HEAD, cells, strict=True):
                if self._table.get_cell(agent_id, name) != cell:
                    self._table.update_cell(agent_id, name, cell, update_width=True)
        self._sort()

    def _sort(self) -> None:
        weight = _WEIGHTS[self.ordered_by]
        by_weight = sorted(self._agents, key=lambda agent_id: (weight(self._agents[agent_id]), agent_id))
        rank = {agent_id: number for number, agent_id in enumerate(by_weight)}
        chosen = self.chosen
        self._table.sort("AGENT", key=lambda agent_id: rank.get(agent_id, 0))
        if chosen is not None:
            self._table.move_cursor(row=self._table.get_row_index(chosen))

    @property
    def chosen(self) -> str | None:
        """The agent under the cursor."""
        if not self._table.row_count:
            return None
        return self._table.coordinate_to_cell_key(self._table.cursor_coordinate).row_key.value

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked."""
        self.ordered_by = str(event.column_key.value)
        self._sort()

    def on_data_table_row_selected(self) -> None:
        """Show what the agent prints whose row was clicked, or entered."""
        self.action_logs()

    def action_order(self) -> None:
        """Sort by the next column."""
        self.ordered_by = HEAD[(HEAD.index(self.ordered_by) + 1) % len(HEAD)]
        self._sort()
        self.notify(f"sorted by {self.ordered_by.lower()}")

    def action_command(self, command: str) -> None:
        """Command the agent under the cursor."""
        if (agent_id := self.chosen) is not None:
            self.run_worker(self._send(command, agent_id), name=command)

    async def _send(self, command: str, agent_id: str) -> None:
        response = await asyncio.to_thread(send, command, agent_id, 0.0)
        if error := response["error"]:
            self.notify(f"{error['message']}\n{error['hint']}", severity="error", markup=False)
        else:
            self.notify(f"{command} {agent_id}: accepted", markup=False)

    def action_logs(self) -> None:
        """Show what the agent under the cursor prints."""
        if (agent_id := self.chosen) is not None and not isinstance(self.screen, LogScreen):
            self.push_screen(LogScreen(agent_id))


class LogScreen(Screen[None]):
    """What one agent prints."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,l,q", "app.pop_screen", "Back"),
    ]

    def __init__(self, agent_id: str) -> None:
        super().__init__()
        self._agent_id = agent_id
        self._next: str | None = None

    def compose(self) -> ComposeResult:
        """Lay out title, lines and keys."""
        yield Header()
        yield Log(max_lines=10 * _LINES)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.title = f"opmas logs {self._agent_id}"
        self.set_interval(_EVERY_S, self._look_again)
        self._look_again()

    def _look_again(self) -> None:
        if not any(worker.name == "lines" and worker.is_running for worker in self.workers):
            self.run_worker(self._look(), name="lines")

    async def _look(self) -> None:
        query = {"tail": _LINES} if self._next is None else {"after": self._next}
        try:
            found = await asyncio.to_thread(get, agent_path(self._agent_id, "/logs"), query, _PATIENCE_S)
        except Failure as failure:
            self.sub_title = failure.message
            return
        self.sub_title, self._next = "", found["next"]
        lines = [
            f"{paper.when(line['time'])} {line['instance']} {paper.plain(line['line'])}" for line in found["lines"]
        ]
        self.query_one(Log).write_lines(lines)
