"""The managers, as the API sees them: one connection to NATS, over which it sends commands and queries.

Nothing is remembered here. Any manager answers for the whole fleet; when none does, the caller is told at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import structlog
from pydantic import JsonValue, ValidationError

from management_api.auth.principal import acting
from management_api.settings import ApiSettings
from opmas.bus import Bus, BusUnavailable, NoResponders, PayloadTooLarge
from opmas.wire import subjects
from opmas.wire.errors import DeadlineExceeded, InvalidRequest, ManagerUnavailable, OpmasError, error_of
from opmas.wire.messages import Command, Message, Query, Response, now
from opmas.wire.subjects import CALLER_HEADER

# A manager answers from memory; when it is this late it is as good as away.
ANSWER_S = 5.0
# What changes or reads the record waits for the database, which is given 9 seconds: then the manager says so itself.
RECORD_S = 9.5

_FROM_RECORD = frozenset({"audit", "events", "why"})

_RETRY_S = 1.0
_CLOSE_S = 1.0

# The inbox that the credentials made for the API (role and name `api`) admit, and no other.
_INBOX = "_INBOX.api.api"

_SAME_VERSION = "do the API and the manager have the same version?"

View = TypeVar("View", bound=Message)

logger = structlog.get_logger(__name__)


class Fleet:
    """Sends commands and queries; `async with fleet.connected()` around its life."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._bus: Bus | None = None
        self._connected = asyncio.Event()
        self._heeding: list[Callable[[str], None]] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep a connection; NATS may be away when this begins, and come and go."""
        try:
            async with asyncio.TaskGroup() as tasks:
                keeper = tasks.create_task(self._keep(), name="connect to nats")
                try:
                    yield
                finally:
                    keeper.cancel()
        finally:
            if self._bus is not None:
                await self._bus.close(_CLOSE_S)

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be reached now."""
        return self._bus is not None and self._bus.is_connected

    @property
    def connection(self) -> Bus | None:
        """The connection, if messages can leave now."""
        return self._bus if self._bus is not None and self._bus.is_connected else None

    async def bus(self) -> Bus:
        """Return the connection as soon as there was one; it may be away again, and comes back by itself."""
        await self._connected.wait()
        assert self._bus is not None  # noqa: S101 - set before the event is
        return self._bus

    async def command(self, name: str, agent_id: str, params: dict[str, JsonValue], wait: float = 0.0) -> Response:
        """Ask for a change; the answer may come `wait` seconds later than others. Raises `ManagerUnavailable`."""
        message = Command(command=name, agent_id=agent_id, params=params, timestamp=now())
        try:
            return await self._ask(subjects.COMMAND, message, RECORD_S + wait)
        finally:
            for heed in self._heeding:
                heed(agent_id)

    def on_command(self, heed: Callable[[str], None]) -> None:
        """Have `heed` called with the agent's id after each command: what was known of the agent may be outdated."""
        self._heeding.append(heed)

    async def query(
        self,
        name: str,
        view: type[View],
        agent_id: str | None = None,
        params: dict[str, JsonValue] | None = None,
        timeout_s: float | None = None,
    ) -> View:
        """Ask for facts; raises what the manager answers in the way of errors, or `ManagerUnavailable`."""
        message = Query(query=name, agent_id=agent_id, params=params or {}, timestamp=now())
        patience = RECORD_S if name in _FROM_RECORD else ANSWER_S
        response = await self._ask(subjects.QUERY, message, timeout_s or patience)
        if response.error is not None:
            raise error_of(response.error)
        try:
            return view.model_validate(response.result)
        except ValidationError as error:
            raise OpmasError(
                f"cannot understand the manager's answer to '{name}': {error.error_count()} fields are wrong",
                _SAME_VERSION,
            ) from error

    async def _ask(self, subject: str, message: Command | Query, timeout_s: float) -> Response:
        if self._bus is None or not self._bus.is_connected:
            raise ManagerUnavailable(
                "cannot reach any manager: there is no connection to NATS",
                "it is tried again all the time; the API's log has the reason, `opmas status` shows what runs",
            )
        try:
            caller = acting.get()
            reply = await self._bus.request(subject, message, timeout_s, {CALLER_HEADER: caller} if caller else None)
            return Response.model_validate_json(reply.data)
        except NoResponders as error:
            raise ManagerUnavailable(
                "cannot reach any manager: none is listening", "start one: `opmas up`, or `opmas manager run`"
            ) from error
        except (BusUnavailable, DeadlineExceeded) as error:
            raise ManagerUnavailable(
                f"cannot get an answer from a manager within {timeout_s:g} s",
                "whether the request took effect is unknown; sending it again does no harm",
            ) from error
        except PayloadTooLarge as error:
            raise InvalidRequest(error.message, error.hint) from error
        except ValidationError as error:
            raise OpmasError("cannot understand the manager's answer", _SAME_VERSION) from error

    async def _keep(self) -> None:
        # Only the first connect needs us: after it the bus comes back by itself.
        while self._bus is None:
            try:
                self._bus = await self._connect()
            except OpmasError as error:
                logger.warning("no connection to NATS yet", reason=error.message, hint=error.hint)
                await asyncio.sleep(_RETRY_S)
        self._connected.set()

    async def _connect(self) -> Bus:
        settings = self._settings
        return await Bus.connect(
            settings.nats_url,
            name="api",
            creds=settings.nats_creds,
            user=settings.nats.user or None,
            password=settings.nats.password.get_secret_value() or None,
            tls=settings.nats.tls_context(),
            inbox_prefix=_INBOX,
            echo=False,  # what this API tells the others of runs it need not hear itself
        )
