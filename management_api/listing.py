"""Which agents a list shows, and in what order: filters, sort and paging over what the manager answers. Pure."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from opmas.wire.params import ListParams, Params
from opmas.wire.status import AgentStatus
from opmas.wire.views import AgentList, AgentView

MAX_PAGE = 1000

SortKey = Literal[
    "id", "name", "type", "status", "created_at", "updated_at",
    "-id", "-name", "-type", "-status", "-created_at", "-updated_at",
]  # fmt: skip


Label = Annotated[str, Field(pattern="^[^=]+=", max_length=512)]


class Selection(Params):
    """Only agents that match all that is given; `total` counts them before paging."""

    status: AgentStatus | None = None
    type: Annotated[str, Field(max_length=64)] | None = None
    label: Annotated[list[Label], Field(description="`key=value`; several: all must match", max_length=20)] = Field(
        default_factory=list
    )
    search: Annotated[str, Field(description="a part of id, name or description", max_length=200)] | None = None
    sort: Annotated[SortKey, Field(description="`-` before the field: descending")] = "id"
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] | None = None
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    def asked(self) -> ListParams:
        """Return what the manager can filter by, so that the rest need not travel."""
        wanted = {"status": self.status, "type": self.type, "label": next(iter(self.label), None)}
        return ListParams.model_validate({name: value for name, value in wanted.items() if value is not None})

    def page(self, agents: Iterable[AgentView]) -> AgentList:
        """Filter, sort and cut."""
        labels = dict(label.split("=", 1) for label in self.label)
        found = [agent for agent in agents if has_labels(agent, labels) and self._mentions(agent)]
        found.sort(key=lambda agent: agent.id)
        field = self.sort.removeprefix("-")
        found.sort(key=lambda agent: getattr(agent, field), reverse=self.sort.startswith("-"))
        end = None if self.limit is None else self.offset + self.limit
        return AgentList(agents=tuple(found[self.offset : end]), total=len(found))

    def _mentions(self, agent: AgentView) -> bool:
        wanted = (self.search or "").casefold()
        return any(wanted in text.casefold() for text in (agent.id, agent.name, agent.description))


def has_labels(agent: AgentView, labels: Mapping[str, str]) -> bool:
    """Say whether an agent carries all of `labels`."""
    return all(agent.labels.get(key) == value for key, value in labels.items())
