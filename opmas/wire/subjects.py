"""Every NATS subject, spelled here and nowhere else."""

COMMAND = "agent.manager.command"
QUERY = "agent.manager.query"
RESPONSE = "agent.manager.response"
STATUS = "agent.status"
METRICS = "agent.metrics"
ALL_STATUS = "agent.*.status"
ALL_METRICS = "agent.*.metrics"

# Where the embedded server delivers commands and queries after it has added the publisher's identity; the subjects
# above are mapped to these, and no client may publish here itself.
IDENTIFIED_COMMAND = "opmas.identified.command"
IDENTIFIED_QUERY = "opmas.identified.query"

MANAGERS_QUEUE = "managers"
"""The queue group in which managers share commands and queries."""

ALL_CLAIMS = "agent.*.claim"
ALL_FRAMES = "agent.*.event.*"
ALL_FILES = "agent.*.file"
ALL_LIVE = "run.*.live"

APIS_QUEUE = "apis"
"""The queue group in which APIs share what instances ask and report about runs."""

CORRELATION_HEADER = "x-correlation-id"
REPUBLISHED_HEADER = "Opmas-Republished"
"""Marks what a manager published again on `agent.status` and `agent.metrics`, so that managers ignore it."""

CALLER_HEADER = "Opmas-Caller"
"""Whom the API speaks for: believed of the API alone."""

CLIENT_INFO_HEADER = "Nats-Request-Info"
"""Set by nats-server, never by a client, on what comes through an identified subject."""


def command(agent_id: str) -> str:
    """What the manager tells the instances of an agent."""
    return f"agent.{agent_id}.command"


def query(agent_id: str) -> str:
    """What the manager asks one instance of an agent."""
    return f"agent.{agent_id}.query"


def response(agent_id: str) -> str:
    """Where instances answer what had no inbox."""
    return f"agent.{agent_id}.response"


def status(agent_id: str) -> str:
    """Where an instance beats."""
    return f"agent.{agent_id}.status"


def metrics(agent_id: str) -> str:
    """Where an instance reports its metrics."""
    return f"agent.{agent_id}.metrics"


def log(agent_id: str) -> str:
    """Where the manager publishes log lines as they appear."""
    return f"agent.{agent_id}.log"


def run(agent_id: str) -> str:
    """Where the API says that there is work for an agent."""
    return f"agent.{agent_id}.run"


def claim(agent_id: str) -> str:
    """Where an instance asks for work."""
    return f"agent.{agent_id}.claim"


def frame(agent_id: str, run_id: str) -> str:
    """Where an instance reports the events of a run."""
    return f"agent.{agent_id}.event.{run_id}"


def file(agent_id: str) -> str:
    """Where an instance asks for a piece of a file."""
    return f"agent.{agent_id}.file"


def live(run_id: str) -> str:
    """Where an API tells the others that events of a run were committed."""
    return f"run.{run_id}.live"


def run_of(subject: str) -> str:
    """Take the run's id from `agent.{id}.event.{run_id}`."""
    return subject.split(".", 3)[3]


def run_of_notice(subject: str) -> str:
    """Take the run's id from `run.{run_id}.live`."""
    return subject.split(".", 2)[1]


def agent_of(subject: str) -> str:
    """Take the agent's id from `agent.{id}.…`; the subject is authenticated, a body is not."""
    return subject.split(".", 2)[1]
