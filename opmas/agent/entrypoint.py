"""From `agent.py:Sentinel` to the agent.

The package's folder comes first on the path, and its file is loaded under a name of its own.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from opmas.agent.author import Agent
from opmas.agent.environment import Environment
from opmas.wire.errors import PackageInvalid

_DEFAULT_ATTRIBUTE = "agent"


def load_agent(environment: Environment) -> Agent:
    """Load the agent that the entrypoint names. Raises `PackageInvalid`, or what the author's code raises at import."""
    is_agno = environment.runtime == "agno"
    if is_agno:
        os.environ["AGNO_TELEMETRY"] = "false"  # read by Agno when the author makes the object
    found = load_object(environment)
    if is_agno:
        from opmas.agent.agno import AgnoAgent  # noqa: PLC0415 - only agents of this runtime have Agno in their process

        return AgnoAgent(found)
    if isinstance(found, type) and issubclass(found, Agent):
        return found()
    if isinstance(found, Agent):
        return found
    raise PackageInvalid(
        f"{environment.entrypoint} is {_describe(found)}, not an opmas.agent.Agent",
        "Name a subclass of Agent, or an Agent(); for an Agno object set `runtime: agno`.",
    )


def load_object(environment: Environment) -> Any:
    """Load whatever the entrypoint names."""
    folder = environment.package_dir
    sys.path.insert(0, str(folder))
    target, _, attribute = environment.entrypoint.partition(":")
    attribute = attribute or _DEFAULT_ATTRIBUTE
    module = (
        _load_file(folder / target, environment.agent_id) if target.endswith(".py") else importlib.import_module(target)
    )
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            there = ", ".join(sorted(each for each in vars(module) if not each.startswith("_"))) or "nothing"
            raise PackageInvalid(
                f"cannot find {attribute!r} in {target}: it defines {there}", "Correct `entrypoint` in agent.yaml."
            ) from None
    return found


def _load_file(file: Path, agent_id: str) -> ModuleType:
    if not file.is_file():
        raise PackageInvalid(f"there is no file {file}", "Correct `entrypoint` in agent.yaml.")
    # Not under the file's own name: every package may have an `agent.py`, and pickles and logs shall tell them apart.
    name = "opmas_agent_" + agent_id.replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101 - a path that ends in .py always has a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _describe(found: Any) -> str:
    return f"the class {found.__qualname__}" if isinstance(found, type) else f"of type {type(found).__name__}"
