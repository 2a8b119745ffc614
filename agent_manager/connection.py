"""How this manager connects to NATS: as a user of the embedded server, or as the settings of an external one say."""

import asyncio
import time

import structlog

from agent_manager.nats import CredentialSource, Grant, Role, SharedSource, SigningKeySource
from agent_manager.nats.sources import EmbeddedSource
from agent_manager.settings import ManagerSettings
from opmas.bus import Bus
from opmas.wire.errors import OpmasError

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_LONGEST_NAP_S = 600.0


def credential_source(settings: ManagerSettings, embedded_url: str) -> CredentialSource:
    """Choose where credentials come from. `embedded_url` is that of the living embedded server, if there is one."""
    nats = settings.nats
    if not nats.url or nats.url == embedded_url:
        return EmbeddedSource(settings.home, embedded_url)
    if nats.signing_key is not None:
        return SigningKeySource(nats.url, account=nats.account, seed_file=nats.signing_key, creds=nats.creds)
    return SharedSource(nats.url, creds=nats.creds, user=nats.user, password=nats.password.get_secret_value())


class OwnLogin:
    """The manager's own NATS user."""

    def __init__(self, settings: ManagerSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._credentials = credentials
        self._grant = Grant(Role.MANAGER, settings.service.node)
        self._path = settings.home / "nats" / "manager.creds"
        self._renew_at: float | None = None

    async def connect(self) -> Bus:
        """Connect, trying for ever: a manager without NATS still watches its processes."""
        if self._credentials.warning:
            log.warning("nats_user_shared", warning=self._credentials.warning)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            try:
                return await self._try_connect()
            except (OpmasError, OSError) as error:
                log.warning("waiting_for_nats", reason=str(error), hint=getattr(error, "hint", ""))
                await asyncio.sleep(_RETRY_S)

    async def _try_connect(self) -> Bus:
        login = await self._credentials.issue(self._grant, self._path)
        self._renew_at = login.renew_at
        return await Bus.connect(
            login.url,
            name=f"manager-{self._settings.service.node}",
            creds=login.creds,
            user=login.username,
            password=login.password,
            inbox_prefix=login.inbox_prefix,
            tls=self._settings.nats.tls_context(),
            echo=False,  # it publishes every heartbeat again, on a subject that it listens to
        )

    async def keep(self) -> None:
        """Renew the credentials, for ever, before they expire; the bus reads them whenever it connects again."""
        while True:
            # In steps: a machine that was suspended wakes up later than it meant to.
            left = _LONGEST_NAP_S if self._renew_at is None else self._renew_at - time.time()
            await asyncio.sleep(min(max(left, _RETRY_S), _LONGEST_NAP_S))
            if self._renew_at is None or self._renew_at > time.time():
                continue
            try:
                self._renew_at = (await self._credentials.renew(self._grant, self._path)).renew_at
            except (OpmasError, OSError) as error:
                log.warning("own_credentials_not_renewed", reason=str(error))
