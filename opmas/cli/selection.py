"""Which agents a verb is about: ids, `--all`, or `--label`; and how it answers and waits."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from opmas.cli.connection import get
from opmas.cli.failure import Failure

# Long enough for an agent that imports a lot, short enough for a terminal.
WAIT_S = 30.0

Json = Annotated[bool, Parameter(name="--json", negative=())]
Labels = Annotated[list[str] | None, Parameter(name=["--label", "-l"], negative=())]


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """The flags of verbs that change agents."""

    all_: Annotated[bool, Parameter(name="--all", negative=())] = False
    """every agent there is"""
    label: Labels = None
    """every agent with this label, key=value; several: with all of them"""
    wait: Annotated[float, Parameter(name="--wait")] = WAIT_S
    """how many seconds it may take until it is so"""
    no_wait: Annotated[bool, Parameter(name="--no-wait", negative=())] = False
    """return once it is decided"""
    json: Json = False
    """one JSON document: {results: [response, …]}"""

    @property
    def patience_s(self) -> float:
        """How long to wait for convergence."""
        return 0.0 if self.no_wait else self.wait


DEFAULT = Choice()


def chosen(verb: str, agents: tuple[str, ...], labels: list[str] | None, *, everyone: bool = False) -> list[str]:
    """Return the ids that are named, each once. Raises `Failure` unless they are named in exactly one way."""
    ways = [bool(agents), bool(labels), everyone]
    if sum(ways) != 1:
        why = "ids, --label and --all exclude each other" if any(ways) else "no agent is named"
        hint = f"opmas {verb} AGENT…, --label key=value or --all; `opmas ls` lists them"
        raise Failure(f"cannot {verb}: {why}", hint, "usage")
    return list(dict.fromkeys(agents)) if agents else labelled(verb, labels)


def labelled(verb: str, labels: list[str] | None) -> list[str]:
    """Return the ids of all agents that carry every one of `labels`. Raises `Failure` when labels match none."""
    parsed(verb, labels or [])
    found = [agent["id"] for agent in get("/api/v1/agents", {"label": labels or None})["agents"]]
    if labels and not found:
        raise Failure(f"cannot {verb}: no agent has the label {', '.join(labels)}", "`opmas ls` lists all", "not_found")
    return found


def parsed(verb: str, labels: list[str]) -> list[tuple[str, str]]:
    """Split labels into key and value. Raises `Failure`."""
    pairs = [label.partition("=") for label in labels]
    if wrong := next(
        (label for label, (key, equals, _) in zip(labels, pairs, strict=True) if not (key and equals)), ""
    ):
        raise Failure(f"cannot {verb}: '{wrong}' is no label", "a label has the form key=value", "usage")
    return [(key, value) for key, _, value in pairs]
