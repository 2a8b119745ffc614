"""An Agno agent: `agent` below is all there is to it, OPMAS runs it.

Without a provider it answers offline, always the same: to try things out, and to test them. The config's `model` gives
it a real one; what is missing for that is said at start, not at the first question.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agno.agent import Agent
from agno.models.base import Model
from agno.models.utils import get_model

from opmas.agent.offline import OfflineModel
from opmas.wire.errors import InvalidRequest, PermissionDenied

OFFLINE = "offline"


def config() -> dict[str, Any]:
    """Read the config that the manager wrote for this agent; by hand, without a manager, there is none."""
    path = os.environ.get("OPMAS_CONFIG")
    return dict(json.loads(Path(path).read_text())["config"]) if path else {}


def choose_model(name: str) -> Model:
    """Make the model called `provider:id`. Raises an error that says what is missing: its library or its key."""
    if name == OFFLINE:
        return OfflineModel()
    try:
        model = get_model(name)
        assert model is not None  # noqa: S101 - only for no name at all
        make_client = getattr(model, "get_client", None)
        if make_client is not None:
            make_client()  # most providers look for their key here and not before
    except ImportError as error:
        raise InvalidRequest(
            f"cannot use the model {name!r}: {error}",
            f"Install the library of {name.partition(':')[0]} in the Python that runs OPMAS, or set model: offline.",
        ) from error
    except ValueError as error:
        raise InvalidRequest(
            f"cannot use the model {name!r}: {error}", "Write provider:id, as Agno names them."
        ) from error
    except Exception as error:  # each provider has its own class for a missing key, and all mean the same to the reader
        raise PermissionDenied(
            f"cannot use the model {name!r}: {error}",
            "Set the key in the environment of `opmas up` and name it under `environment` in agent.yaml.",
        ) from error
    return model


def tell_time(timezone: str = "UTC") -> str:
    """Tell the date and time in a timezone such as Europe/Lisbon."""
    try:
        return datetime.now(ZoneInfo(timezone)).strftime("%A %d %B %Y, %H:%M %Z")
    except (ZoneInfoNotFoundError, ValueError):
        return f"There is no timezone {timezone!r}; try UTC or Europe/Lisbon."


def build(settings: dict[str, Any]) -> Agent:
    """Make the assistant as the config says."""
    return Agent(
        id="assistant",
        name="Assistant",
        description="Answers in sentences; can tell the time",
        model=choose_model(settings.get("model", OFFLINE)),
        instructions=settings.get("instructions"),
        tools=[tell_time],
        telemetry=False,
    )


agent = build(config())
