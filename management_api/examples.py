"""One example of every body, for the OpenAPI document; made of the models themselves, so that they cannot be wrong."""

from datetime import UTC, datetime

from opmas.wire.errors import ErrorBody
from opmas.wire.messages import Response
from opmas.wire.status import AgentStatus, Desired
from opmas.wire.views import (
    AgentList,
    AgentView,
    AuditEntry,
    AuditView,
    Cause,
    ConfigView,
    ControlResult,
    EventsView,
    EventView,
    InstanceMetrics,
    InstanceView,
    LogLine,
    LogsView,
    MetricsView,
    MetricValues,
    NodeList,
    NodeView,
    PackageList,
    PackageView,
    StatusDetails,
    StatusView,
    Step,
    WhyView,
)

_NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
_RUNNING = AgentStatus.RUNNING
_FIGURES = MetricValues(cpu_percent=1.5, memory_bytes=8_400_000, open_files=9, threads=1, custom={"runs": 42.0})

INSTANCE = InstanceView(
    id="echo-0", pid=4711, node="node-1", status=_RUNNING, uptime_s=61.5, last_heartbeat=_NOON,
    cpu_percent=1.5, memory_bytes=8_400_000,
)  # fmt: skip
AGENT = AgentView(
    id="echo", name="Echo", type="example", version="1.0.0", description="Repeats what it hears", package="echo",
    status=_RUNNING, desired=Desired.RUNNING, enabled=True, replicas=1, capabilities=("chat",),
    config={"greeting": "hello"}, labels={"team": "a"}, instances=(INSTANCE,), created_at=_NOON, updated_at=_NOON,
)  # fmt: skip
AGENTS = AgentList(agents=(AGENT,), total=1)
STATUS = StatusView(
    agent_id="echo", status=_RUNNING, timestamp=_NOON, health="healthy",
    details=StatusDetails(last_heartbeat=_NOON, last_seen=_NOON), instances=(INSTANCE,),
)  # fmt: skip
WHY = WhyView(
    agent_id="echo",
    status=AgentStatus.ERROR,
    code="crash_loop",
    summary="echo crashed five times in ten minutes; it is not tried again",
    hint="mend it, then `opmas start echo`",
    steps=(Step(time=_NOON, what="echo-0 ended with exit code 1"),),
    last_lines=("KeyError: 'greeting'",),
)
CONFIG = ConfigView(
    agent_id="echo",
    config={"greeting": "hello", "times": 1},
    given={"greeting": "hello"},
    defaults={"greeting": "hi", "times": 1},
    json_schema={"type": "object", "properties": {"greeting": {"type": "string"}, "times": {"type": "integer"}}},
)
METRICS = MetricsView(
    agent_id="echo", timestamp=_NOON, metrics=_FIGURES, instances=(InstanceMetrics(id="echo-0", metrics=_FIGURES),)
)
LOGS = LogsView(
    agent_id="echo",
    lines=(LogLine(time=_NOON, stream="stdout", instance="echo-0", line="hello"),),
    next="eyJlY2hvLTAiOiAiMTIzOjQ1NiJ9",
)
EVENTS = EventsView(
    events=(
        EventView(
            id=7, time=_NOON, node="node-1", agent_id="echo", instance_id="echo-0", kind="instance", status=_RUNNING,
            cause=Cause(actor="api", command="start"),
        ),
    ),
    next=7,
)  # fmt: skip
AUDIT = AuditView(
    audit=(
        AuditEntry(
            id=3, time=_NOON, node="node-1", publisher="api", command="start", agent_id="echo", outcome="success",
            correlation_id="6f1c2d",
        ),
    ),
    next=3,
)  # fmt: skip
PACKAGES = PackageList(
    packages=(PackageView(name="echo", folder="echo", version="1.0.0", registered=True),),
    total=1,
)
NODES = NodeList(
    nodes=(
        NodeView(
            id="node-1", version="0.1.0", pid=4700, status="ready", started_at=_NOON, agents=1, instances=1,
            database="ok", isolation="landlock 4", memory_bytes=60_000_000,
        ),
    ),
    total=1,
)  # fmt: skip


def response(command: str) -> Response:
    """Show how a command is answered."""
    result = ControlResult(accepted=True, generation=2, status=_RUNNING, changed=True)
    return Response(
        status="success", command=command, agent_id="echo", result=result.model_dump(mode="json"), timestamp=_NOON
    )


REFUSED = Response(
    status="error",
    command="start",
    agent_id="ecko",
    error=ErrorBody(code="agent_not_found", message="there is no agent 'ecko'", hint="`opmas ls` lists the agents"),
    timestamp=_NOON,
)
