"""Figures for Prometheus: how requests go, by route, and how agents are, asked of the manager at every scrape."""

import time
from collections import Counter as Tally
from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from management_api.agents import TheFleet
from management_api.auth import TheCaller, requires
from management_api.openapi import answers
from management_api.streams import Streams
from management_api.tenancy import visible_agents
from opmas import __version__
from opmas.wire.errors import OpmasError
from opmas.wire.status import AgentStatus
from opmas.wire.views import AgentView

router = APIRouter(tags=["health"])

# From a query answered out of memory to a command that waits for an agent.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Figures:
    """What is counted about requests. Routes are told by their template: a path would be a series for every id."""

    def __init__(self, streams: Streams) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each: when it began
        self.registry = CollectorRegistry()
        by_route = ("method", "route")
        self._requests = Counter(
            "opmas_http_requests", "Requests answered.", (*by_route, "status"), registry=self.registry
        )
        self._errors = Counter(
            "opmas_http_errors", "Requests answered with 4xx or 5xx.", (*by_route, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "opmas_http_request_seconds",
            "Time until an answer began.",
            by_route,
            buckets=_SECONDS,
            registry=self.registry,
        )
        open_streams = Gauge("opmas_http_streams", "Streams of server-sent events now.", registry=self.registry)
        open_streams.set_function(lambda: streams.open)
        about = Gauge("opmas_build_info", "What runs.", ("version",), registry=self.registry)
        about.labels(__version__).set(1)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        method = method if method in _METHODS else "other"  # strangers may send any word
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)
        if status >= 400:
            self._errors.labels(method, route, status).inc()


class Gauged:
    """Measures every request that passes."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What was refused before it came to a route has none; neither has a path that is nobody's.
                route = getattr(scope.get("route"), "path", "none")
                self._figures.answered(scope["method"], route, message["status"], time.monotonic() - started)
            await send(message)

        await self._app(scope, receive, observe)


class _Agents(Collector):
    """The fleet at one moment."""

    def __init__(self, agents: tuple[AgentView, ...] | None) -> None:
        self._agents = agents

    def collect(self) -> Iterable[Metric]:
        up = self._agents is not None
        yield GaugeMetricFamily("opmas_manager_up", "Whether a manager answers.", value=float(up))
        if self._agents is None:
            return
        agents = GaugeMetricFamily("opmas_agents", "Agents by status.", labels=("status",))
        tally = Tally(agent.status for agent in self._agents)
        for status in AgentStatus:
            agents.add_metric((status.value,), tally[status])
        instances = GaugeMetricFamily("opmas_instances", "Instances that have a process.", labels=("agent_id",))
        restarts = CounterMetricFamily(
            "opmas_agent_restarts", "Restarts of an agent's present instances.", labels=("agent_id",)
        )
        for agent in self._agents:
            instances.add_metric((agent.id,), sum(instance.pid is not None for instance in agent.instances))
            restarts.add_metric((agent.id,), sum(instance.restarts for instance in agent.instances))
        yield from (agents, instances, restarts)


@router.get(
    "/metrics",
    dependencies=[requires("metrics:read")],
    response_class=HttpResponse,
    responses=answers() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_prometheus_metrics(request: Request, fleet: TheFleet, caller: TheCaller) -> HttpResponse:
    """Figures in Prometheus' text format: requests, latency and errors by route, agents by status, restarts.

    Without a manager `opmas_manager_up` is 0, and those of agents are missing.
    """
    figures: Figures = request.app.state.figures
    try:
        agents: tuple[AgentView, ...] | None = await visible_agents(fleet, caller)
    except OpmasError:  # said by opmas_manager_up
        agents = None
    fleet_now = CollectorRegistry()
    fleet_now.register(_Agents(agents))
    text = generate_latest(figures.registry) + generate_latest(fleet_now)
    return HttpResponse(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
