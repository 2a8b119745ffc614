"""Asks over NATS whether a manager answers, for health checks of containers: `python -m agent_manager.probe`.

With the manager's own settings, but as a client of its own: what it finds is what any other client would find.
"""

import asyncio
import sys

from agent_manager.connection import credential_source
from agent_manager.nats import EmbeddedServer, Grant, Role
from agent_manager.settings import CONFIG_FILE, ManagerSettings
from opmas.bus import Bus
from opmas.wire import subjects
from opmas.wire.errors import ManagerUnavailable, OpmasError, error_of
from opmas.wire.messages import Query, Response, now
from opmas.wire.views import HealthView

# Below the ten seconds that a health check is commonly given.
_PATIENCE_S = 5.0


def main() -> int:
    """Print the health and return 0, or say why there is none and return 1."""
    try:
        health = asyncio.run(_ask(ManagerSettings.load(CONFIG_FILE)))
    except OpmasError as error:
        sys.stderr.write(f"{error.message}\n  {error.hint}\n")
        return 1
    sys.stdout.write(health.model_dump_json() + "\n")
    return 1 if health.status == "starting" else 0


async def _ask(settings: ManagerSettings) -> HealthView:
    embedded = EmbeddedServer(settings.home)
    if not settings.nats.url and not await embedded.adopt():
        raise ManagerUnavailable("cannot reach NATS: the embedded server does not run", "start it: `opmas up`")
    source = credential_source(settings, "" if settings.nats.url else embedded.url)
    # Not withdrawn: that would close a connection through the system account, and this one closes at once.
    login = await source.issue(Grant(Role.API, "probe"), settings.home / "nats" / "probe.creds")
    bus = await Bus.connect(
        login.url,
        name="probe",
        creds=login.creds,
        user=login.username,
        password=login.password,
        inbox_prefix=login.inbox_prefix,
        tls=settings.nats.tls_context(),
        timeout_s=_PATIENCE_S,
    )
    try:
        answer = await bus.request(subjects.QUERY, Query(query="health", timestamp=now()), _PATIENCE_S)
    finally:
        await bus.close()
    response = Response.model_validate_json(answer.data)
    if response.error is not None:
        raise error_of(response.error)
    return HealthView.model_validate(response.result)


if __name__ == "__main__":
    sys.exit(main())
