"""What the manager tells an instance at its start, by environment variables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opmas.wire.errors import InvalidRequest
from opmas.wire.ids import is_agent_id


@dataclass(frozen=True, slots=True)
class Environment:
    """One instance's place in the world; the defaults are those of `agent.yaml`."""

    agent_id: str
    instance_id: str = ""
    name: str = ""
    type: str = ""
    version: str = ""
    nats_url: str = field(default="nats://127.0.0.1:4222", repr=False)  # may carry a password
    nats_creds: Path | None = None
    nats_user: str | None = None
    nats_password: str | None = field(default=None, repr=False)
    inbox_prefix: str = ""
    runtime: str = "python"
    entrypoint: str = "agent.py:agent"
    package_dir: Path = Path()
    config_file: Path | None = None
    data_dir: Path | None = None
    heartbeat_interval_s: float = 5.0
    stop_grace_s: float = 5.0
    start_count: int = 0
    max_runs: int = 8
    log_level: str = "INFO"

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Environment":
        """Read the variables. Raises `InvalidRequest` naming the one that is wrong."""
        agent_id = environ.get("AGENT_ID", "")
        if not is_agent_id(agent_id):
            raise InvalidRequest(
                f"cannot start: AGENT_ID is {agent_id!r}, which names no agent",
                "The manager sets it; to try an agent by hand, use opmas.agent.testing.",
            )
        return cls(
            agent_id=agent_id,
            instance_id=environ.get("OPMAS_INSTANCE_ID") or f"{agent_id}-0",
            name=environ.get("AGENT_NAME") or agent_id,
            type=environ.get("AGENT_TYPE", ""),
            version=environ.get("AGENT_VERSION", ""),
            nats_url=environ.get("NATS_URL") or "nats://127.0.0.1:4222",
            nats_creds=_path(environ, "NATS_CREDS"),
            nats_user=environ.get("NATS_USER") or None,
            nats_password=environ.get("NATS_PASSWORD") or None,
            inbox_prefix=environ.get("NATS_INBOX_PREFIX") or f"_INBOX_{agent_id}",
            runtime=environ.get("OPMAS_RUNTIME") or "python",
            entrypoint=environ.get("OPMAS_ENTRYPOINT") or "agent.py:agent",
            package_dir=(_path(environ, "OPMAS_PACKAGE_DIR") or Path()).absolute(),
            config_file=_path(environ, "OPMAS_CONFIG"),
            data_dir=_path(environ, "OPMAS_DATA_DIR"),
            heartbeat_interval_s=_number(environ, "OPMAS_HEARTBEAT_INTERVAL_S", 5.0, least=0.05),
            stop_grace_s=_number(environ, "OPMAS_STOP_GRACE_S", 5.0, least=0.0),
            start_count=int(_number(environ, "OPMAS_START_COUNT", 0, least=0)),
            max_runs=int(_number(environ, "OPMAS_MAX_RUNS", 8, least=1)),
            log_level=environ.get("OPMAS_LOG_LEVEL") or "INFO",
        )


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name)
    return Path(value) if value else None


def _number(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise InvalidRequest(f"cannot start: {name} is {text!r}", f"It is a number, at least {least:g}.")
    return value
