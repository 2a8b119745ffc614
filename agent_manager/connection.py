"""How this manager connects to NATS: as a user of the embedded server, or as the settings of an external one say."""

import asyncio
import ssl

import structlog

from agent_manager.nats import CredentialSource, Grant, Role, SharedSource, SigningKeySource
from agent_manager.nats.sources import EmbeddedSource
from agent_manager.settings import ManagerSettings
from opmas.bus import Bus
from opmas.settings import NatsSettings
from opmas.wire.errors import OpmasError

log = structlog.get_logger(__name__)

_RETRY_S = 1.0


def credential_source(settings: ManagerSettings, embedded_url: str) -> CredentialSource:
    """Choose where credentials come from. `embedded_url` is that of the living embedded server, if there is one."""
    nats = settings.nats
    if not nats.url or nats.url == embedded_url:
        return EmbeddedSource(settings.home, embedded_url)
    if nats.signing_key is not None:
        return SigningKeySource(nats.url, account=nats.account, seed_file=nats.signing_key, creds=nats.creds)
    return SharedSource(nats.url, creds=nats.creds, user=nats.user, password=nats.password.get_secret_value())


async def connect(settings: ManagerSettings, credentials: CredentialSource, name: str) -> Bus:
    """Connect, trying for ever: a manager without NATS still watches its processes."""
    if credentials.warning:
        log.warning("nats_user_shared", warning=credentials.warning)
    path = settings.home / "nats" / "manager.creds"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        try:
            login = await credentials.issue(Grant(Role.MANAGER, settings.service.node), path)
            return await Bus.connect(
                login.url,
                name=name,
                creds=login.creds,
                inbox_prefix=login.inbox_prefix,
                tls=tls_context(settings.nats),
            )
        except OpmasError as error:
            log.warning("waiting_for_nats", reason=error.message, hint=error.hint)
            await asyncio.sleep(_RETRY_S)


def tls_context(nats: NatsSettings) -> ssl.SSLContext | None:
    """The TLS of an external server; None without."""
    if not nats.tls:
        return None
    context = ssl.create_default_context(cafile=str(nats.tls_ca) if nats.tls_ca else None)
    if not nats.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
