"""The embedded nats-server and the credentials minted for its clients.

`EmbeddedServer` runs the server; a `CredentialSource` (`EmbeddedSource`, `SigningKeySource`, `SharedSource`) makes
logins from a `Grant`. Nothing here knows agents, manifests or the rest of the manager.
"""

from agent_manager.nats.account import JetStreamLimits
from agent_manager.nats.identity import Publisher
from agent_manager.nats.minting import Grant, grantable
from agent_manager.nats.roles import Role
from agent_manager.nats.server import PORT_SETTING, EmbeddedServer, NatsServerFailed
from agent_manager.nats.sources import CredentialSource, EmbeddedSource, Login, SharedSource, SigningKeySource
from agent_manager.nats.system import NatsRefused

__all__ = [
    "PORT_SETTING",
    "CredentialSource",
    "EmbeddedServer",
    "EmbeddedSource",
    "Grant",
    "JetStreamLimits",
    "Login",
    "NatsRefused",
    "NatsServerFailed",
    "Publisher",
    "Role",
    "SharedSource",
    "SigningKeySource",
    "grantable",
]
